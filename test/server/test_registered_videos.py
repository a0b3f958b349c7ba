"""Videos that parts of the server offer under a scheme of their own: found by name and owner, never shown as a path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI
from live_server import RunningServer, run_test_server

from mmduet.errors import OptionError, SourceError
from mmduet.server.registered_videos import RegisteredVideos
from mmduet.video import VideoWriter

SILENT = {"fps": 4, "speak": {"policy": "never"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    with VideoWriter(root / "film.mp4", 64, 48, 8.0) as writer:
        for _ in range(16):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    (root / "broken.mp4").write_bytes(bytes(5000))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    """A server that allows no files, with the scheme ``clip``, and ``mine``, which depends on the owner."""
    first_owner: list[str] = []

    def find_own(name: str, owner: str) -> Path:
        first_owner[:] = first_owner or [owner]
        if owner != first_owner[0]:
            raise SourceError(f"mine:{name} does not exist")
        return folder / name

    def register(app: FastAPI) -> None:
        app.state.manager.media.register_videos("clip", lambda name, owner: folder / f"{name}.mp4")
        app.state.manager.media.register_videos("mine", find_own)

    with run_test_server(keys="k", extend=register) as running:
        yield running


def secret(server: RunningServer) -> dict[str, str]:
    """Return the headers of a new visitor."""
    url = f"{server.http}/v1/realtime/client_secrets"
    value = httpx2.post(url, headers={"Authorization": "Bearer k"}).json()["value"]
    return {"Authorization": f"Bearer {value}"}


def read_source(server: RunningServer, url: str, headers: dict[str, str]) -> list[dict]:
    """Open a source in a new session and return every event to the session's end."""
    with server.connect(additional_headers=headers) as client:
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=url)
        return [*client.receive_until("input_source.closed"), *client.end_stream()]


def reason(events: list[dict]) -> str:
    """Return why the source was closed."""
    (closed,) = [event for event in events if event["type"] == "input_source.closed"]
    return str(closed["reason"])


@pytest.mark.parametrize("url", ["clip:film", "CLIP:film"])
def test_a_registered_video_is_read(server: RunningServer, folder: Path, url: str) -> None:
    events = read_source(server, url, secret(server))
    assert [e["pts"] for e in events if e["type"] == "input_frame.scored"] == [i * 250_000 for i in range(8)]
    assert {e["url"] for e in events if e["type"].startswith("input_source.")} == {url}
    assert str(folder) not in json.dumps(events)


@pytest.mark.parametrize(("url", "code"), [("clip:missing", "bad_source"), ("clip:broken", "corrupt_video")])
def test_errors_name_the_video_and_never_its_path(server: RunningServer, folder: Path, url: str, code: str) -> None:
    events = read_source(server, url, secret(server))
    assert reason(events) == "failed"
    (error,) = [e["error"] for e in events if e["type"] == "error"]
    assert error["code"] == code
    assert url in error["message"]
    assert str(folder) not in json.dumps(events)


@pytest.mark.parametrize("url", ["film.mp4", "clip", "clip:" + "x" * 3000, "clip:a\0b", "clip:../../etc/passwd"])
def test_nothing_else_becomes_accessible(server: RunningServer, url: str) -> None:
    assert reason(read_source(server, url, secret(server))) == "failed"


def test_videos_of_other_owners_do_not_exist(server: RunningServer) -> None:
    mine, yours = secret(server), secret(server)
    url = f"{server.http}/v1/sessions"
    created = httpx2.post(url, json={"source": "mine:film.mp4"}, headers=mine)
    assert created.status_code == 201
    httpx2.delete(f"{url}/{created.json()['id']}", headers=mine)
    refused = httpx2.post(url, json={"source": "mine:film.mp4"}, headers=yours)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_source")
    assert reason(read_source(server, "mine:film.mp4", yours)) == "failed"
    assert reason(read_source(server, "mine:film.mp4", mine)) == "ended"


@pytest.mark.parametrize("scheme", ["http", "rtsp", "file", "webcam", "data", "clip", "Clips", "a", "a b", ""])
def test_schemes_with_another_meaning_cannot_be_registered(scheme: str) -> None:
    videos = RegisteredVideos()
    videos.register("clip", lambda name, owner: Path(name))
    with pytest.raises(OptionError):
        videos.register(scheme, lambda name, owner: Path(name))
