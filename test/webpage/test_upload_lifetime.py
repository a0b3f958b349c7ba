"""Uploads: how long they are kept, and that nothing is left behind."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from container_files import intact
from live_server import wait_for
from page_server import run_page_server
from page_visitor import Visitor, files_below

from mmduet.webpage.private_folder import delete_leftovers

VIDEO = intact("mp4")


def test_files_are_private_and_deleted_when_the_server_stops(tmp_path: Path) -> None:
    with run_page_server(temporary=tmp_path) as server:
        assert list(tmp_path.iterdir()) == []
        Visitor(server).upload(VIDEO)
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert files_below(tmp_path) == ["video"]
    assert list(tmp_path.iterdir()) == []


def test_an_unused_video_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmduet.webpage.video_library.EXPIRY_CHECK_SECONDS", 0.05)
    with run_page_server(temporary=tmp_path, upload_lifetime=0.3) as server:
        visitor = Visitor(server)
        upload = visitor.upload(VIDEO)
        wait_for(lambda: files_below(tmp_path) == [])
        assert visitor.get(f"uploads/{upload['id']}").status_code == 404


def test_requests_for_its_status_do_not_keep_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmduet.webpage.video_library.EXPIRY_CHECK_SECONDS", 0.05)
    with run_page_server(temporary=tmp_path, upload_lifetime=0.5) as server:
        visitor = Visitor(server)
        upload = visitor.upload(VIDEO)
        wait_for(lambda: visitor.get(f"uploads/{upload['id']}").status_code == 404)


def test_what_a_killed_server_left_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    with run_page_server(temporary=tmp_path) as first:
        Visitor(first).upload(VIDEO)
        (running,) = tmp_path.iterdir()
        killed = tmp_path / "mmduet-page-killed"
        shutil.copytree(running, killed)  # its lock file is not locked, as after the end of a process
        foreign = tmp_path / "mmduet-page-foreign"
        foreign.symlink_to(running)
        assert delete_leftovers(tmp_path) == [killed]
        assert files_below(running) == ["video"]
        shutil.copytree(running, killed)
        with run_page_server(temporary=tmp_path):
            wait_for(lambda: not killed.exists())
            assert foreign.is_symlink()
            assert files_below(running) == ["video"]
