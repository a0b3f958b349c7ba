"""Uploads: what is accepted, limits, ownership, and what uses a video."""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
from container_files import MAKERS, intact
from live_server import RunningServer, run_test_server, wait_for
from make_corpus import CASES, FILES, Case
from page_server import run_page_server
from page_visitor import HTTP, Visitor, error_code, files_below
from video_files import make

from mmduet.webpage import uploads
from mmduet.webpage.disk_budget import DiskBudget, DiskShare

VIDEO = intact("mp4")
ID = re.compile(r"[\w-]{22,}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    limits = {"max_upload_bytes": 3 << 20, "max_upload_seconds": 20.0, "max_uploads_per_visitor": 3}
    with run_page_server(temporary=folder, **limits) as server:
        yield server


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    visitor = Visitor(server)
    yield visitor
    for upload in visitor.get_json("uploads")["uploads"]:
        visitor.delete(f"uploads/{upload['id']}")


# what is accepted


def test_an_upload_is_described_played_listed_and_deleted(visitor: Visitor, folder: Path) -> None:
    response = visitor.post_video(VIDEO, "C:\\clips\\my film.mp4")
    upload = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"uploads/{upload['id']}"
    assert ID.fullmatch(upload["id"])
    assert {name: upload[name] for name in ("name", "width", "height", "source", "playable", "transcoding")} == {
        "name": "my film.mp4",
        "width": 48,
        "height": 32,
        "source": f"upload:{upload['id']}",
        "playable": True,
        "transcoding": None,
    }
    assert upload["duration_s"] == pytest.approx(1.5)
    assert visitor.get_json(f"uploads/{upload['id']}") == upload
    assert visitor.get_json("uploads")["uploads"] == [upload]
    played = HTTP.get(visitor.base + upload["preview"])  # a player sends no Authorization header
    assert played.content == VIDEO
    assert played.headers["content-type"] == "video/mp4"
    part = HTTP.get(visitor.base + upload["preview"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO[10:20])
    assert visitor.delete(f"uploads/{upload['id']}") == 204
    assert visitor.get(f"uploads/{upload['id']}").status_code == 404
    assert HTTP.get(visitor.base + upload["preview"]).status_code == 404
    assert files_below(folder) == []


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.kind == "video"])
def test_files_are_accepted_or_refused_with_the_reason(case: Case, visitor: Visitor, folder: Path) -> None:
    response = visitor.post_video((FILES / "video" / case.name).read_bytes(), case.name)
    if case.outcome == "plays":
        assert response.status_code == 201, response.text
    else:
        assert (response.status_code, error_code(response)) == (400, case.outcome), response.text
        assert case.name in response.json()["error"]["message"]
        assert str(folder) not in response.text
        assert files_below(folder) == []


def test_sound_without_video_is_refused(visitor: Visitor) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", 16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    response = visitor.post_video(buffer.getvalue(), "song.wav")
    assert (response.status_code, error_code(response)) == (400, "no_video_stream")


@pytest.mark.parametrize(("name", "step"), [*(("ts", step) for step in range(1, 8)), ("webp", 2), ("avi", 3)])
def test_a_file_that_takes_too_long_is_refused(
    name: str, step: int, visitor: Visitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()
    monkeypatch.setattr("mmduet.webpage.upload_check.monotonic", lambda: 100.0 if next(calls) >= step else 0.0)
    response = visitor.post_video(intact(name), f"slow.{name}")
    assert (response.status_code, error_code(response)) == (400, "video_check_timeout")
    assert response.json()["error"]["message"].startswith(f"slow.{name} cannot be checked within 20 s")
    assert files_below(folder) == []


def test_an_encrypted_video_is_refused(visitor: Visitor, tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1", "encryption_kid": "2" * 32}
    path = make(tmp_path / "drm.mp4", options=key)
    response = visitor.post_video(path.read_bytes(), "drm.mp4")
    assert (response.status_code, error_code(response)) == (400, "encrypted_video")


def test_a_video_that_is_too_long_is_refused_even_if_it_declares_less(visitor: Visitor, tmp_path: Path) -> None:
    long = make(tmp_path / "long.mkv", count=25, fps=1)
    response = visitor.post_video(long.read_bytes())
    assert (response.status_code, error_code(response)) == (400, "video_too_long")
    stream = make(tmp_path / "long.h264", count=525, size=(16, 16))  # declares nothing
    assert error_code(visitor.post_video(stream.read_bytes())) == "video_too_long"


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../etc/passwd", "passwd"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),
        ("a\nb\x00.mp4", "a b\N{REPLACEMENT CHARACTER}.mp4"),
        ("", "video"),
        ("long" * 100 + ".mp4", None),
    ],
)
def test_names_are_for_display_only(name: str, stored: str | None, visitor: Visitor) -> None:
    shown = visitor.upload(VIDEO, name)["name"]
    assert shown == stored or (stored is None and len(shown) <= 120 and shown.endswith("….mp4"))


# limits


def test_a_large_upload_ends_early(visitor: Visitor, folder: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield bytes(1 << 16)

    with suppress(httpx2.TransportError):  # the connection may be closed while the client is sending
        response = visitor.post_video(endless())
        assert (response.status_code, error_code(response)) == (413, "too_large")
    assert sent < 64 << 20
    wait_for(lambda: files_below(folder) == [])


def test_a_large_upload_is_refused_by_its_declared_size(server: RunningServer, visitor: Visitor) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        secret = visitor.headers["Authorization"]
        head = f"POST /page/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {secret}\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


def test_a_visitor_keeps_a_bounded_number_of_videos(server: RunningServer, visitor: Visitor) -> None:
    for _ in range(3):
        visitor.upload(VIDEO)
    response = visitor.post_video(VIDEO)
    assert (response.status_code, error_code(response)) == (429, "rate_limit_exceeded")
    other = Visitor(server)
    assert other.delete(f"uploads/{other.upload(VIDEO)['id']}") == 204


def test_an_upload_that_is_interrupted_leaves_nothing(server: RunningServer, visitor: Visitor, folder: Path) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        secret = visitor.headers["Authorization"]
        head = f"POST /page/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {secret}\r\nContent-Length: 90000\r\n\r\n"
        connection.sendall(head.encode() + VIDEO[:500])
        wait_for(lambda: files_below(folder) == ["video"])
    wait_for(lambda: files_below(folder) == [])
    assert visitor.get_json("uploads")["uploads"] == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported(error: int, visitor: Visitor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def failing_open(path: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        file = real_open(path, mode, *arguments, **options)  # type: ignore[call-overload]
        return FullDisk(file, error) if mode == "xb" else file

    monkeypatch.setattr(Path, "open", failing_open)
    response = visitor.post_video(VIDEO)
    assert (response.status_code, error_code(response)) == (507, "storage")
    assert str(folder) not in response.text
    assert files_below(folder) == []


class FullDisk:
    """A file on a disk that is full."""

    def __init__(self, file: io.BufferedWriter, error: int) -> None:
        self._file, self._error = file, error

    def write(self, data: bytes) -> int:
        raise OSError(self._error, os.strerror(self._error))

    def close(self) -> None:
        self._file.close()


def test_the_disk_space_of_all_visitors_is_bounded(tmp_path: Path) -> None:
    budget = DiskBudget(100)
    first, second = DiskShare(budget), DiskShare(budget)
    first.add(60)
    with pytest.raises(uploads.CapacityError, match="100 bytes"):
        second.add(41)
    second.add(40)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(uploads.CapacityError):
        second.add_file(file)
    assert not file.exists()
    first.release()
    assert budget.used_bytes == 40
    with pytest.raises(uploads.CapacityError):
        first.add(1)  # its files are gone


# ownership


def test_a_visitor_finds_nothing_of_another(server: RunningServer, visitor: Visitor) -> None:
    upload = visitor.upload(VIDEO)
    other, anybody = Visitor(server), Visitor(server)
    anybody.headers = {}
    for stranger in (other, anybody):
        for method, path in (("GET", ""), ("GET", "/video"), ("DELETE", ""), ("HEAD", "")):
            assert stranger.request(method, f"uploads/{upload['id']}{path}").status_code == 404
        assert stranger.get_json("uploads")["uploads"] == []
        body = {"video": upload["source"], "task": "caption"}
        assert stranger.request("POST", "results", json=body).status_code == 404
    missing = other.get("uploads/" + "A" * 32).json()["error"]["message"]
    foreign = other.get(f"uploads/{upload['id']}").json()["error"]["message"]
    assert foreign.replace(upload["id"], "A" * 32) == missing
    assert visitor.get(f"uploads/{upload['id']}/video?token={'A' * 32}").status_code == 404
    assert visitor.get(f"uploads/{upload['id']}/video?token=%C3%A9").status_code == 404
    assert visitor.get_json(f"uploads/{upload['id']}") == upload


@pytest.mark.parametrize("upload_id", ["../../v1/models/x/y", "%2e%2e%2fvideo", "a%00b", "x" * 5000])
def test_hostile_ids_are_not_found(upload_id: str, visitor: Visitor) -> None:
    assert visitor.get(f"uploads/{upload_id}").status_code == 404


def test_a_session_opens_only_videos_of_its_visitor(server: RunningServer, visitor: Visitor) -> None:
    upload = visitor.upload(VIDEO)
    with server.connect(additional_headers=visitor.headers) as client:
        client.send("input_source.open", url=upload["source"])
        assert client.receive("input_source.opened")["url"] == upload["source"]
        assert client.receive("input_source.closed")["reason"] == "ended"
    with server.connect(additional_headers=Visitor(server).headers) as client:
        client.send("input_source.open", url=upload["source"])
        closed = client.receive("input_source.closed")
    assert closed["reason"] == "failed"
    assert "does not exist" in closed["message"]


def test_the_source_of_a_session_ends_when_its_video_is_deleted(server: RunningServer, visitor: Visitor) -> None:
    upload = visitor.upload(make_long())
    with server.connect(additional_headers=visitor.headers) as client:
        client.update_session({"fps": None})
        client.send("input_source.open", url=upload["source"])
        client.receive("input_frame.scored")
        assert visitor.delete(f"uploads/{upload['id']}") == 204
        assert client.receive("input_source.closed")["reason"] == "asked"


def make_long() -> bytes:
    """Return a video whose frames take a while to score."""
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder) / "video.mp4", count=480, size=(16, 16)).read_bytes()


def test_a_key_is_required_where_the_server_has_one(tmp_path: Path) -> None:
    with run_page_server(temporary=tmp_path, keys=["mine"]) as server:
        visitor = Visitor(server, "mine")
        upload = visitor.upload(VIDEO)
        assert HTTP.post(visitor.base + "uploads", content=VIDEO).status_code == 401
        assert HTTP.get(visitor.base + "uploads").status_code == 401
        assert HTTP.get(f"{visitor.base}uploads/{upload['id']}").status_code == 401
        assert HTTP.get(visitor.base + upload["preview"]).status_code == 200
        owner = {"Authorization": "Bearer mine"}  # the key from which the visitor's secret was made
        assert HTTP.get(f"{visitor.base}uploads/{upload['id']}", headers=owner).status_code == 404


def test_a_public_page_requires_a_client_secret(tmp_path: Path) -> None:
    limits = {"max_sessions_per_client_secret": 2, "frames_per_second_per_client_secret": 16}
    with run_page_server(temporary=tmp_path, page=True, public=True, **limits) as server:
        visitor = Visitor(server)
        for path in ("uploads", "results"):
            assert HTTP.post(visitor.base + path, json={}).status_code == 401
            assert HTTP.get(visitor.base + path).status_code == 401
        assert visitor.upload(VIDEO)["playable"]


def test_another_site_cannot_upload_or_embed(visitor: Visitor) -> None:
    response = visitor.post_video(VIDEO, headers={"Origin": "https://other.example"})
    assert (response.status_code, error_code(response)) == (403, "forbidden_origin")
    preview = HTTP.get(visitor.base + visitor.upload(VIDEO)["preview"])
    assert preview.headers["cross-origin-resource-policy"] == "same-origin"
    assert preview.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in preview.headers["content-security-policy"]
    assert preview.headers["cache-control"] == "private, no-store"


# the end


@pytest.mark.parametrize("use", ["play", "play without token", "source", "task"])
def test_what_uses_a_video_keeps_it(
    use: str, server: RunningServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []
    upload = visitor.upload(VIDEO)
    monkeypatch.setattr(uploads.Uploads, "touch", lambda self, upload: touched.append(upload.id))
    if use == "play":
        assert HTTP.get(visitor.base + upload["preview"]).status_code == 200
    elif use == "play without token":
        assert visitor.get(f"uploads/{upload['id']}/video").status_code == 200
    elif use == "source":
        with server.connect(additional_headers=visitor.headers) as client:
            client.send("input_source.open", url=upload["source"])
            client.receive("input_source.opened")
    else:
        body = {"video": upload["source"], "task": "caption", "options": {"fps": 1, "speak": "never"}}
        assert visitor.request("POST", "results", json=body).status_code == 202
    assert upload["id"] in touched


def test_uploads_need_the_page(tmp_path: Path) -> None:
    with run_test_server() as server:
        assert HTTP.post(f"{server.http}/page/uploads", content=VIDEO).status_code == 404


def test_every_container_is_accepted(visitor: Visitor) -> None:
    for name in MAKERS:
        upload = visitor.upload(intact(name), name)
        assert (upload["width"], upload["height"]) == (48, 32), name
        assert visitor.delete(f"uploads/{upload['id']}") == 204
