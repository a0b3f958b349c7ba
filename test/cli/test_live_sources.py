"""``mmduet run`` on cameras, streams and screens, without a server."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from command_line import MODEL, Command, check_plot, check_subtitles, in_process, of_type, read_events, write_video
from hls_files import write_hls
from PIL import Image
from rtsp_server import run_rtsp_server
from stream_server import Answer, body, endless, folder, run_stream_server
from terminal_process import run_in_terminal

from mmduet.cli._connection import SourceReporter
from mmduet.events import Frame
from mmduet.video.open_source import open_source

SILENT = (*MODEL, "--speak", "never", "--no-query", "--threads", "1")
MULTIPART = "multipart/x-mixed-replace; boundary=frame"


def jpeg(brightness: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), brightness, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def mjpeg_camera(interval: float, frames: int | None = None) -> Answer:
    """Return a camera that sends ``frames`` images over HTTP and then breaks the connection."""

    def parts() -> Iterator[bytes]:
        for number in count() if frames is None else range(frames):
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(number % 200) + b"\r\n"
            time.sleep(interval)

    return endless(parts, MULTIPART)


@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.slow)])
def test_an_rtsp_camera_is_watched_for_the_requested_number_of_seconds(
    run: Command, tmp_path: Path, transport: str
) -> None:
    log = tmp_path / "a.jsonl"
    with run_rtsp_server(password="s3cret") as camera:
        address = f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film"
        options = ("--transport", transport, "--seconds", 1, "--fps", 4, "--output", log)
        done = run(address, *SILENT, *options)
        assert done.status == 0, done.err
        assert "s3cret" not in done.out + done.err + log.read_text()
    logged = read_events(log)
    times = [event["time"] for event in of_type(logged, "scores")]
    assert times == sorted(times)
    assert max(times) < 1
    assert 0 < len(times) <= len(times) + logged[-1]["dropped"] <= 5


def test_a_camera_that_breaks_is_reported_and_opened_again(run: Command, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    with run_stream_server({"/cam": mjpeg_camera(0.02, 5)}) as server:
        address = server.url("/cam").replace("http://", "http://cam:s3cret@")
        done = run(address, *SILENT, "--fps", 100, "--max-frames", 8, "--output", log, "--quiet")
        assert done.status == 0, done.err
        assert len(server.requests) >= 2
    lost, resumed, *_ = done.err.splitlines()
    assert lost.startswith(f"{server.url('/cam')}: warning[source_lost]: connection lost, trying again in 0.2 s (0 s)")
    assert resumed.startswith(f"{server.url('/cam')}: warning[source_resumed]: connection resumed after ")
    assert len(of_type(read_events(log), "scores")) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("/quit\r", 0)])
def test_ending_while_a_camera_sends_nothing_keeps_the_files(tmp_path: Path, key: str, status: int) -> None:
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    files = ("--output", log, "--plot", plot, "--subtitles", subtitles)
    ended = Event()

    def parts() -> Iterator[bytes]:
        for number in range(8):
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(number) + b"\r\n"
        ended.wait(60)

    with run_stream_server({"/cam": endless(parts, MULTIPART)}) as server:
        replying = (*MODEL, "--speak", "threshold:0", "--max-new-tokens", "4", "--no-query", "--fps", "1000")
        with run_in_terminal("run", server.url("/cam"), *replying, *files) as terminal:
            terminal.wait_until(lambda: log.exists() and '"reply"' in log.read_text())
            terminal.type(key)
            assert terminal.wait() == status, terminal.display
            assert "Traceback" not in terminal.display
        ended.set()
    assert of_type(read_events(log), "reply")
    assert len(of_type(read_events(log), "stream_ended")) == (status == 0)
    check_subtitles(subtitles)
    check_plot(plot)


def test_late_frames_of_a_fast_camera_are_dropped_and_counted(run: Command, tmp_path: Path) -> None:
    """The camera sends hundreds of images per second, and the model replies after every frame."""
    log = tmp_path / "a.jsonl"
    replying = (*MODEL, "--speak", "threshold:0", "--max-new-tokens", "100", "--no-query", "--threads", "1")
    with run_stream_server({"/cam": mjpeg_camera(0.001)}) as server:
        done = run(server.url("/cam"), *replying, "--fps", 1000, "--max-frames", 16, "--output", log)
    assert done.status == 0, done.err
    logged = read_events(log)
    frames = [event["frame"] for event in of_type(logged, "scores")]
    assert len(frames) == 16
    assert frames == sorted(set(frames))
    assert logged[-1]["dropped"] > 0
    assert frames[-1] > 15, "the numbers of dropped frames are left out"
    assert f"16 frames, {logged[-1]['dropped']} late frame" in done.err


def test_files_and_playlists_on_a_web_server_lose_no_frame(run: Command, video: Path, tmp_path: Path) -> None:
    write_hls(tmp_path)
    log = tmp_path / "a.jsonl"
    with run_stream_server({**folder(tmp_path), "/clip.mp4": body(video.read_bytes())}) as server:
        for path, frames in (("/clip.mp4", 12), ("/list.m3u8", 12)):
            done = run(server.url(path), *SILENT, "--fps", 4, "--output", log)
            assert done.status == 0, done.err
            logged = read_events(log)
            assert [event["time"] for event in of_type(logged, "scores")] == pytest.approx(
                [k / 4 for k in range(frames)], abs=0.01
            )
            assert "dropped" not in logged[-1]


def test_a_webcam_that_is_lost_is_an_error_after_its_frames(run: Command, tmp_path: Path) -> None:
    """OpenCV reads a file instead of a device."""
    video, log = write_video(tmp_path / "clip.avi", 2), tmp_path / "a.jsonl"
    done = run(f"webcam:{video}", *SILENT, "--fps", 1000, "--output", log)
    assert done.status == 4
    assert done.err.splitlines()[-1].startswith("error[bad_source]: webcam:")
    logged = read_events(log)
    assert of_type(logged, "scores")
    assert logged[-1]["type"] == "stream_ended"


@pytest.mark.parametrize(
    ("source", "options", "status", "message"),
    [
        ("webcam:97", (), 4, "webcam:97 cannot be opened; name another camera as webcam:NUMBER"),
        ("webcam:97", ("--profile", "paper"), 2, "--profile paper needs a video file, got webcam:97"),
        ("rtsp://u:s3cret@127.0.0.1:9/x", (), 4, "check the address, and that the device is on"),
        ("rtsp:/x", (), 4, "is not a valid address"),
        (
            "rstp://u:s3cret@cam/x",
            (),
            4,
            "rstp://cam/x has the unsupported scheme rstp; use rtsp, rtsps, http or https",
        ),
        ("srt://cam:9/x?passphrase=s3cret", (), 4, "srt://cam:9/x has the unsupported scheme srt;"),
        ("http://127.0.0.1:9/x", (), 4, "127.0.0.1"),
        ("webcam", ("--seconds", "0"), 2, "--seconds must be greater than 0, got 0.0"),
        ("screen", (), 4, "screen cannot be captured: the variable DISPLAY names no X display"),
        ("screen::97", (), 4, "check that x11grab can open ':97'"),
    ],
)
def test_sources_that_cannot_be_watched_are_explained(
    run: Command,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    options: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    done = run(source, *SILENT, *options)
    assert (done.status, done.out) == (status, ""), done.err
    assert message in done.err
    assert "s3cret" not in done.err


@contextmanager
def run_x_server(*options: str) -> Iterator[str]:
    """Run an X server with a white screen of 320x240 until the block ends; yield its display."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "320x240x24", "-wr", "-nolisten", "tcp", *options]
    process = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as announced:
            yield f":{announced.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("named", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_screen_is_watched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, named: bool
) -> None:
    run, log = in_process(monkeypatch, capsys, "run"), tmp_path / "a.jsonl"
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with run_x_server() as display:
        with closing(open_source(f"screen:{display}")) as screen:
            assert (screen.info.width, screen.info.height, screen.live) == (320, 240, True)
            assert next(iter(screen.frames(None))).image.mean() > 240, "a pointer on white"
        monkeypatch.setenv("DISPLAY", ":97" if named else display)
        source = f"screen:{display}" if named else "screen"
        done = run(source, *SILENT, "--fps", 4, "--seconds", 1, "--output", log)
        assert done.status == 0, done.err
    logged = read_events(log)
    assert 1 <= len(of_type(logged, "scores")) + logged[-1]["dropped"] <= 5  # at 0, .25, .5, .75 and just below 1 s


def test_lines_about_a_lost_source_become_rare(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    reporter = SourceReporter("rtsp://cam:s3cret@host/x", clock)
    for second in range(30):
        now[0] = float(second)
        reporter.on_retry("timed out", 4.0)
    frame = Frame(0, 0.0, np.zeros((8, 8, 3), np.uint8))
    assert list(reporter.report_resumed([frame, frame])) == [frame, frame]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("(")[2].partition(")")[0] for line in lines[:-1]] == [
        "0 s",
        "1 s",
        "2 s",
        "4 s",
        "8 s",
        "16 s",
    ]
    assert lines[-1] == "rtsp://host/x: warning[source_resumed]: connection resumed after 29 s"
