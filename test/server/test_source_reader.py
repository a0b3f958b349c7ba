"""Sources that the server reads: files, downloads and playlists, over a socket or with HTTP only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
from file_server import serve_files
from live_server import RunningServer, run_test_server, wait_for

from mmduet.server.media import MediaLoader
from mmduet.server.url_policy import UrlPolicy
from mmduet.video import VideoWriter

SPEAKING = {"type": "realtime", "max_output_tokens": 4, "duet": {"speak": {"policy": "threshold", "value": 0.5}}}


def write_video(path: Path, seconds: float) -> Path:
    """Write noise at 8 fps."""
    noise = np.random.default_rng(0)
    with VideoWriter(path, 64, 48, 8.0) as writer:
        for _ in range(round(seconds * 8)):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_video(root / "film.mp4", 4.0)
    write_video(root / "long.mp4", 40.0)
    with VideoWriter(root / "longer.mp4", 16, 16, 8.0) as writer:
        for _ in range(8 * 900):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    (root / "broken.mp4").write_bytes(bytes(5000))
    whole = (root / "film.mp4").read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with run_test_server(
        pull_roots=str(folder), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8", time_to_live=0.5
    ) as server:
        yield server


def read_source(server: RunningServer, url: str, fps: float = 4.0) -> list[dict]:
    """Open a source in a new session and return every event to the session's end."""
    with server.connect() as client:
        client.receive()
        client.update_session({"fps": fps, "speak": {"policy": "never"}})
        client.send("input_source.open", url=url)
        events = client.receive_until("input_source.closed")
        return [*events, *client.end_stream()]


def test_every_frame_of_a_file_is_scored(server: RunningServer, folder: Path) -> None:
    events = read_source(server, "film.mp4")
    opened = next(e for e in events if e["type"] == "input_source.opened")
    assert (opened["url"], opened["width"], opened["height"]) == ("film.mp4", 64, 48)
    assert [e["pts"] for e in events if e["type"] == "input_frame.scored"] == [i * 250_000 for i in range(16)]
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "ended"
    assert events[-1]["frames"] == {"received": 16, "scored": 16}


def test_downloaded_file_scores_like_a_local_file(server: RunningServer, folder: Path) -> None:
    here = read_source(server, "film.mp4")
    with serve_files({"/film.mp4?token=secret": (folder / "film.mp4").read_bytes()}) as host:
        there = read_source(server, f"{host}/film.mp4?token=secret")
    scores = [[e["informative"] for e in events if e["type"] == "input_frame.scored"] for events in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert "secret" not in json.dumps(there)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/etc/passwd", "bad_source"),
        ("../film.mp4", "bad_source"),
        ("file:///etc/passwd", "bad_source"),
        ("http://169.254.169.254/x", "bad_source"),
        ("rtsp://127.0.0.1/x", "bad_source"),
        ("http://[::1/x", "bad_source"),
        ("rtsp://[::1/x", "bad_source"),
        ("file://[::1/x", "bad_source"),
        ("broken.mp4", "corrupt_video"),
        ("a" * 300, "bad_source"),
    ],
)
def test_forbidden_or_unreadable_sources_are_reported(server: RunningServer, url: str, code: str) -> None:
    events = read_source(server, url)
    assert [e["error"]["code"] for e in events if e["type"] == "error"] == [code]
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"
    assert events[-1]["reason"] == "ended"


def test_damage_of_a_source_is_reported_when_it_is_closed(server: RunningServer) -> None:
    closed = next(e for e in read_source(server, "film.mp4") if e["type"] == "input_source.closed")
    assert closed["damage"] == {"skipped": 0, "spans": [], "truncated_at": None}
    events = read_source(server, "truncated.mp4")
    closed = next(e for e in events if e["type"] == "input_source.closed")
    assert (closed["reason"], closed["damage"]["skipped"]) == ("ended", 0)
    assert 1 < closed["damage"]["truncated_at"] < 3
    assert 4 <= len([e for e in events if e["type"] == "input_frame.scored"]) < 12
    missing = next(e for e in read_source(server, "missing.mp4") if e["type"] == "input_source.closed")
    assert missing["damage"] is None


def test_source_can_be_closed_and_another_opened(server: RunningServer) -> None:
    with server.connect() as client:
        client.receive()
        client.update_session({"fps": 4, "speak": {"policy": "never"}})
        client.send("input_source.close")
        assert client.receive("error")["error"]["code"] == "no_source"
        client.send("input_source.open", url="long.mp4")
        client.receive("input_frame.scored")
        client.send("input_source.open", url="film.mp4")
        assert client.receive("error")["error"]["code"] == "source_is_open"
        client.send("input_source.close")
        assert client.receive("input_source.closed")["reason"] == "asked"
        client.send("input_source.open", url="film.mp4")
        assert client.receive("input_source.closed")["reason"] == "ended"
        frames = client.end_stream()[-1]["frames"]
        assert set(frames) == {"received", "scored"}


def test_malformed_http_responses_close_the_source(server: RunningServer) -> None:
    with serve_files({}, {"/nowhere": " "}) as host:
        events = read_source(server, f"{host}/nowhere")
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"
    events = read_source(server, "http://127.0.0.1:1/\x7f")
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"


class FailingLoader(MediaLoader):
    """A media loader with a bug."""

    def letterbox(self, image: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError


def test_unexpected_error_closes_only_the_source(folder: Path) -> None:
    media = FailingLoader(UrlPolicy(roots=(folder,)), max_bytes=1 << 20, max_pixels=1 << 20, max_frames=100)
    with run_test_server(media=media) as server:
        events = read_source(server, "film.mp4")
    assert next(e for e in events if e["type"] == "error")["error"]["code"] == "server"
    assert events[-1]["reason"] == "ended"


def test_idle_timeout_does_not_apply_while_a_source_is_open(folder: Path) -> None:
    with run_test_server(pull_roots=str(folder), idle_timeout=0.4) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": 8, "speak": {"policy": "never"}})
        client.send("input_source.open", url="longer.mp4")
        start = time.monotonic()
        while time.monotonic() - start < 1.5:  # longer than the timeout and the interval at which it is checked
            client.receive("input_frame.scored")
        client.send("input_source.close")
        assert client.receive_until("input_source.closed")[-1]["reason"] == "asked"
        assert client.end_stream()[-1]["reason"] == "ended"


def test_disconnecting_stops_the_source(server: RunningServer) -> None:
    with server.connect() as client:
        client.receive()
        client.send("input_source.open", url="long.mp4")
        client.receive("input_frame.scored")
    wait_for(lambda: not server.manager.sessions)


# Sessions without a socket


def read_events(response: httpx2.Response) -> Iterator[dict]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            assert event["event_id"] == name
            yield event


def test_session_without_socket_streams_all_events(server: RunningServer) -> None:
    body = {"source": "film.mp4", "query": "What?", "session": SPEAKING}
    created = httpx2.post(f"{server.http}/v1/sessions", json=body)
    assert created.status_code == 201
    assert created.json()["max_output_tokens"] == 4
    url = server.http + created.headers["location"] + "/events"
    with httpx2.stream("GET", url) as response:
        first = [event for event, _ in zip(read_events(response), range(5), strict=False)]
    with httpx2.stream("GET", url, headers={"Last-Event-ID": first[-1]["event_id"]}) as response:
        rest = list(read_events(response))
    events = [*first, *rest]
    assert events[0]["type"] == "session.created"
    assert events[-1]["type"] == "session.closed"
    assert events[-1]["reason"] == "ended"
    ids = [event["event_id"] for event in events]
    assert ids == sorted(set(ids))
    assert events[-1]["frames"]["scored"] == events[-1]["frames"]["received"] > 0
    wait_for(lambda: created.json()["id"] not in [session.id for session in server.manager.sessions])
    assert httpx2.get(url, headers={"Last-Event-ID": ids[-1]}).status_code == 204


def test_events_of_an_ended_session_can_still_be_read(server: RunningServer) -> None:
    body = {"source": "broken.mp4", "session": {"type": "realtime", "duet": {"ack": False}}}
    created = httpx2.post(f"{server.http}/v1/sessions", json=body)
    assert created.json()["duet"]["ack"] is False
    wait_for(lambda: not server.manager.sessions)
    with httpx2.stream("GET", server.http + created.headers["location"] + "/events") as response:
        events = list(read_events(response))
    assert [e["error"]["code"] for e in events if e["type"] == "error"] == ["corrupt_video"]
    assert events[-1]["type"] == "session.closed"


def test_session_continues_without_reader_until_deleted(server: RunningServer) -> None:
    session_id = httpx2.post(f"{server.http}/v1/sessions", json={"source": "longer.mp4"}).json()["id"]
    with pytest.raises(AssertionError):
        wait_for(lambda: not server.manager.sessions, seconds=1.2)  # longer than the server's time_to_live
    assert httpx2.delete(f"{server.http}/v1/sessions/{session_id}").status_code == 204
    wait_for(lambda: not server.manager.sessions)
    assert httpx2.delete(f"{server.http}/v1/sessions/{session_id}").status_code == 204


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "source"),
        ({"source": "x", "colour": 1}, "colour"),
        ({"source": "x", "session": {"type": "realtime", "duet": {"fps": -1}}}, "session.duet.fps"),
        ({"source": "x", "session": {"type": "realtime", "model": "gpt"}}, "session.model"),
    ],
)
def test_invalid_requests_name_the_parameter(server: RunningServer, body: dict, param: str) -> None:
    response = httpx2.post(f"{server.http}/v1/sessions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not server.manager.sessions


def test_session_is_invisible_to_other_keys(folder: Path) -> None:
    with run_test_server(keys="mine,yours", pull_roots=str(folder)) as server:
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))
        session_id = httpx2.post(f"{server.http}/v1/sessions", json={"source": "long.mp4"}, headers=mine).json()["id"]
        url = f"{server.http}/v1/sessions/{session_id}"
        assert httpx2.get(f"{url}/events", headers=yours).status_code == 404
        assert httpx2.delete(url, headers=yours).status_code == 404
        assert httpx2.post(f"{server.http}/v1/sessions", json={"source": "long.mp4"}).status_code == 401
        assert httpx2.delete(url, headers=mine).status_code == 204


# Playlists


def write_playlist(folder: Path, seconds: float) -> dict[str, bytes]:
    """Return an HLS playlist and its segments of one second, by path."""
    noise = np.random.default_rng(0)
    options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "s%03d.ts")}
    with av.open(str(folder / "list.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=8, options={"g": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(round(seconds * 8)):
            image = noise.integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_finished_playlist_is_scored_completely(server: RunningServer, tmp_path: Path) -> None:
    with serve_files(write_playlist(tmp_path, 4.0)) as host:
        events = read_source(server, f"{host}/list.m3u8")
    assert [e["pts"] for e in events if e["type"] == "input_frame.scored"] == [i * 250_000 for i in range(16)]
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "ended"


def test_live_playlist_is_followed_until_its_end_tag(server: RunningServer, tmp_path: Path) -> None:
    files = write_playlist(tmp_path, 6.0)
    whole = files["/list.m3u8"].decode()
    cut = whole[: whole.index("#EXTINF", whole.index("s001"))]  # two segments and no end tag
    files["/list.m3u8"] = cut.encode()
    with serve_files(files) as host, server.connect() as client:
        client.receive()
        client.update_session({"fps": 4, "speak": {"policy": "never"}})
        client.send("input_source.open", url=f"{host}/list.m3u8")
        first = [client.receive("input_frame.scored")["pts"] for _ in range(3)]
        files["/list.m3u8"] = whole.encode()
        events = client.receive_until("input_source.closed", timeout=40)
        assert events[-1]["reason"] == "ended"
        rest = [e["pts"] for e in events if e["type"] == "input_frame.scored"]
        client.end_stream()
    assert [*first, *rest] == sorted({*first, *rest})
    assert rest[-1] >= 5_000_000


def test_a_missing_segment_is_reported_as_damage(server: RunningServer, tmp_path: Path) -> None:
    files = write_playlist(tmp_path, 4.0)
    del files["/s001.ts"]
    with serve_files(files) as host:
        events = read_source(server, f"{host}/list.m3u8")
    closed = next(e for e in events if e["type"] == "input_source.closed")
    assert closed["reason"] == "ended"
    ((span,), skipped) = closed["damage"]["spans"], closed["damage"]["skipped"]
    pts = [e["pts"] / 1e6 for e in events if e["type"] == "input_frame.scored"]
    assert 0 < len(pts) < 16
    assert skipped == round((span["end"] - span["start"]) * 8)
    assert not [time for time in pts if span["start"] <= time < span["end"]]


def test_playlist_segments_are_checked_by_the_policy(server: RunningServer, tmp_path: Path) -> None:
    files = write_playlist(tmp_path, 2.0)
    for evil in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd"):
        files["/list.m3u8"] = files["/list.m3u8"].replace(b"s000.ts", evil.encode())
        with serve_files(files) as host:
            events = read_source(server, f"{host}/list.m3u8")
        assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"
        files["/list.m3u8"] = files["/list.m3u8"].replace(evil.encode(), b"s000.ts")
