"""What the server pulls over HTTP and from its folders: streams, playlists, hostile lists, and errors that name the URL."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from captured_logs import unredacted
from hls_files import write_hls
from live_server import RunningServer, run_test_server
from PIL import Image
from stream_server import body, chunked, endless, folder, run_stream_server
from video_files import make

SILENT = {"fps": 8, "speak": {"policy": "never"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    with run_test_server(
        pull_roots=str(root), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8", max_download_bytes=1 << 20
    ) as server:
        yield server


def read_source(server: RunningServer, url: str) -> list[dict]:
    """Open a source in a new session and return every event to the session's end."""
    with server.connect() as client:
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=url)
        return [*client.receive_until("input_source.closed", timeout=30), *client.end_stream()]


def scored(events: list[dict]) -> list[float]:
    return [event["pts"] / 1e6 for event in events if event["type"] == "input_frame.scored"]


def failure(events: list[dict]) -> str:
    """Return the message of a source that failed."""
    closed = next(event for event in events if event["type"] == "input_source.closed")
    assert closed["reason"] == "failed"
    return next(event for event in events if event["type"] == "error")["error"]["message"]


@pytest.mark.parametrize("ranges", [True, False])
def test_byte_ranges_of_a_playlist_are_scored_once(server: RunningServer, tmp_path: Path, ranges: bool) -> None:
    write_hls(tmp_path, hls_flags="single_file", hls_segment_type="fmp4")
    with run_stream_server(folder(tmp_path, ranges=ranges)) as web:
        events = read_source(server, web.url("/list.m3u8"))
    assert scored(events) == pytest.approx([index / 8 for index in range(24)], abs=0.002)


def camera(sent_at: list[float]) -> Iterator[bytes]:
    """Yield the parts of an MJPEG stream, and add the time of each to ``sent_at``."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")
    while True:
        sent_at.append(time.monotonic())
        yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image.getvalue() + b"\r\n"
        time.sleep(0.2)


def test_mjpeg_camera_is_live_and_timed_by_arrival(server: RunningServer) -> None:
    sent_at: list[float] = []
    parts = endless(lambda: camera(sent_at), "multipart/x-mixed-replace; boundary=frame")
    with (
        run_stream_server({"/cam": parts}) as web,
        server.connect() as client,
    ):
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=web.url("/cam"))
        times = [client.receive("input_frame.scored")["pts"] / 1e6 for _ in range(6)]
        assert times[-1] - times[0] == pytest.approx(
            sent_at[5] - sent_at[0], abs=0.4
        )  # at least 1 s, longer under load
        start = time.monotonic()
        client.send("input_source.close")
        client.receive("input_source.closed")
        assert time.monotonic() - start < 3
        client.end_stream()
        chat = ask(server, web.url("/cam"))
        assert (chat.status_code, chat.json()["error"]["code"]) == (400, "bad_source")
        assert "stream" in chat.json()["error"]["message"]


def ask(server: RunningServer, url: str) -> httpx2.Response:
    """Ask about a video in a chat completion."""
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What?"}]
    request = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 2}
    request["model"] = httpx2.get(f"{server.http}/v1/models").json()["data"][0]["id"]
    return httpx2.post(f"{server.http}/v1/chat/completions", json=request, timeout=60)


def test_body_without_length_that_is_complete_is_a_file(server: RunningServer, tmp_path: Path) -> None:
    data = make(tmp_path / "x.mp4", 16, fps=8).read_bytes()
    with run_stream_server({"/x": chunked(lambda: iter([data]))}) as web:
        assert len(scored(read_source(server, web.url("/x")))) == 16
        assert ask(server, web.url("/x")).status_code == 200


def test_lists_under_a_root_open_nothing_outside(server: RunningServer, root: Path, tmp_path: Path) -> None:
    outside = write_hls(tmp_path / "outside").parent / "s0.ts"
    with run_stream_server({"/x.ts": body(outside.read_bytes())}) as web:
        for number, entry in enumerate((f"file://{outside}", str(outside), web.url("/x.ts"))):
            for suffix in ("m3u", "M3U8", "mp4", "ffconcat"):
                name = f"evil{number}.{suffix}"
                text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{entry}\n#EXT-X-ENDLIST\n"
                (root / name).write_text(f"ffconcat version 1.0\nfile {entry}\n" if suffix == "ffconcat" else text)
                assert str(root) not in failure(read_source(server, name))
        assert not web.requests
    write_hls(root / "mine")
    assert len(scored(read_source(server, "mine/list.m3u8"))) == 24


def test_uploaded_and_downloaded_lists_open_nothing(server: RunningServer, tmp_path: Path) -> None:
    video = make(tmp_path / "x.mp4", 5)
    with run_stream_server({"/x.mp4": body(video.read_bytes())}) as web:
        for target in (str(video), f"file://{video}", web.url("/x.mp4"), "video"):
            for text in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile {target}\n",
            ):
                data = f"data:video/mp4;base64,{base64.b64encode(text.encode()).decode()}"
                chat = ask(server, data)
                assert chat.status_code == 400
                assert "mmduet-" not in chat.text
        assert not web.requests


def test_errors_name_the_url(server: RunningServer, root: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "x.mp4", 5).read_bytes()[:600]
    (root / "short.mp4").write_bytes(data)
    assert "short.mp4" in failure(read_source(server, "short.mp4"))
    with run_stream_server({"/short.mp4": body(data)}) as web:
        url = web.url("/short.mp4")
        message = failure(read_source(server, url))
        assert url in message
        assert "mmduet-" not in message + ask(server, url).text


def test_download_without_usable_temporary_folder(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path / "x.mp4", 5).read_bytes()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with run_stream_server({"/x.mp4": body(data)}) as web:
        message = failure(read_source(server, web.url("/x.mp4")))
        assert f"cannot store {web.url('/x.mp4')}" in message
        chat = ask(server, web.url("/x.mp4"))
    assert (chat.status_code, chat.json()["error"]["code"]) == (507, "storage")
    assert str(tmp_path) not in message + chat.text


@pytest.mark.parametrize(
    "url",
    ["rtsp://admin:12/S3cret@127.0.0.1:1/x", "rtps://admin:S3cret@host/x", "rtsp:/admin:S3cret@host/x",
     "http://S3cret/x:y@host/x", "http://admin:12?S3cret@127.0.0.1/x", "HTTP://admin:S3cret@127.0.0.1:1/x"],
)  # fmt: skip
def test_passwords_never_appear(server: RunningServer, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    events = read_source(server, url)
    failure(events)
    assert "s3cret" not in (json.dumps(events) + unredacted(caplog)).lower()
