"""``mmduet stream``: same output and files as ``mmduet run``, cameras, and the shutdown of ``mmduet serve``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command_line import SECONDS, TALKING, Command, in_process, of_type, read_events, write_video
from live_server import RunningServer, run_test_server
from rtsp_server import run_rtsp_server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mmduet.model import load_model


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_test_server(load_model("random:tiny")) as server:
        yield server


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", SECONDS)


@pytest.fixture
def mmduet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


def stream_options(served: RunningServer, *extra: object) -> tuple:
    return ("--server", f"127.0.0.1:{served.port}", "--fast", "--encoding", "raw", *TALKING[2:], *extra)


def test_output_equals_that_of_run(mmduet: Command, served: RunningServer, video: Path, tmp_path: Path) -> None:
    turns = ("--query", "What?@1.1", "--context", "A bell rings.@2", "--query", "And?@9")
    local_log, remote_log = tmp_path / "local.jsonl", tmp_path / "remote.jsonl"
    run = mmduet("run", video, *TALKING, *turns, "--output", local_log, "--scores")
    stream = mmduet("stream", video, *stream_options(served), *turns, "--output", remote_log, "--scores")
    assert (run.status, stream.status) == (0, 0)
    assert stream.out == run.out
    local, remote = read_events(local_log), read_events(remote_log)
    for a, b in zip(of_type(local, "scores"), of_type(remote, "scores"), strict=True):
        assert a["informative"] == pytest.approx(b["informative"], abs=1e-5)
        assert (a["time"], a["speak"]) == (b["time"], b["speak"])
    local_replies, remote_replies = ([event["text"] for event in of_type(log, "reply")] for log in (local, remote))
    assert local_replies == remote_replies != []


def test_the_summary_is_that_of_run(mmduet: Command, served: RunningServer, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "cut.mp4", 6).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    for video in (tmp_path / "cut.mp4", write_video(tmp_path / "one.mp4", 1 / 8)):
        summaries = [
            mmduet(*command).err.splitlines()[-1].partition(" s of video")[0]
            for command in (("run", video, *TALKING), ("stream", video, *stream_options(served)))
        ]
        assert summaries[0] == summaries[1]
        assert not summaries[0].endswith(" 0.00")


def test_plot_and_subtitles_are_written(mmduet: Command, served: RunningServer, video: Path, tmp_path: Path) -> None:
    plot, vtt = tmp_path / "a.png", tmp_path / "a.vtt"
    assert mmduet("stream", video, *stream_options(served, "--plot", plot, "--subtitles", vtt, "--quiet")).status == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert vtt.read_text().startswith("WEBVTT")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--server", "127.0.0.1:9"), 10, "is a server running there"),
        (("--server", "ftp://x"), 2, "is not a valid address"),
        (("--fps", "0"), 2, "--fps"),
        (("--speak", "loud"), 2, "speak policy"),
        (("--query", "a", "--no-query"), 2, "contradict"),
    ],
)
def test_invalid_options_and_unreachable_servers_are_reported(
    mmduet: Command, video: Path, options: tuple, status: int, message: str
) -> None:
    done = mmduet("stream", video, *options)
    assert done.status == status
    assert message in done.err


def test_window_rejected_by_the_server_is_reported(mmduet: Command, served: RunningServer, video: Path) -> None:
    done = mmduet("stream", video, *stream_options(served, "--window", "100000"))
    assert done.status == 2
    assert "100000 frames" in done.err


# a server in its own process


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    log = (tmp_path / "server.log").open("w")
    command = [sys.executable, "-m", "mmduet", "serve", "--model", "random:tiny", "--port", "0", "--log-json"]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "MMDUET_MAX_UTILIZATION": "inf", "OMP_NUM_THREADS": "1"},
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert "mmduet serves random:tiny at ws://127.0.0.1:" in line, (tmp_path / "server.log").read_text()
    try:
        yield server, int(line.split("127.0.0.1:")[1].split("/")[0])
    finally:
        server.kill()
        server.wait()


def test_sigterm_lets_the_server_finish_replies(process: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    server, port = process
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    with connect(url, legacy=True) as ws, connect(url, legacy=True) as idle:
        session = {"type": "realtime", "max_output_tokens": 400, "duet": {"window": None}}
        ws.send(json.dumps({"type": "session.update", "session": session}))
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell."}]}
        ws.send(json.dumps({"type": "conversation.item.create", "item": item}))
        ws.send(json.dumps({"type": "response.create"}))
        received = [json.loads(ws.recv(20))]
        while received[-1]["type"] != "response.created":
            received.append(json.loads(ws.recv(20)))
        server.send_signal(signal.SIGTERM)
        with suppress(ConnectionClosed):
            while True:
                received.append(json.loads(ws.recv(30)))
        assert ws.close_code == 1012
        types = [event["type"] for event in received]
        assert types.index("session.go_away") < types.index("response.done")
        with suppress(ConnectionClosed):
            while True:
                idle.recv(10)
        assert idle.close_code == 1012
    assert server.wait(20) == 0
    lines = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines()]
    assert any("draining" in line["message"] for line in lines)
    assert not any(line["level"] == "error" for line in lines)
    with pytest.raises((InvalidStatus, OSError)):
        connect(url, legacy=True)


def test_second_signal_stops_the_server_during_a_reply(process: tuple[subprocess.Popen[str], int]) -> None:
    """The reply takes several seconds, so the server is still waiting for it when the second signal comes."""
    server, port = process
    with connect(f"ws://127.0.0.1:{port}/v1/realtime", legacy=True) as ws:
        session = {"type": "realtime", "max_output_tokens": 3_800, "duet": {"window": None}}
        ws.send(json.dumps({"type": "session.update", "session": session}))
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell."}]}
        ws.send(json.dumps({"type": "conversation.item.create", "item": item}))
        ws.send(json.dumps({"type": "response.create"}))
        receive_until(ws, "response.created")
        server.send_signal(signal.SIGINT)
        receive_until(ws, "session.go_away")
        time.sleep(0.5)
        assert server.poll() is None, "the first signal waits for the reply"
        server.send_signal(signal.SIGINT)
        server.wait(20)  # a busy machine takes its time; the reply must not have been finished by then
        with suppress(ConnectionClosed):
            while True:
                assert json.loads(ws.recv(5))["type"] != "response.done", "the reply was finished first"


def receive_until(ws: Any, kind: str) -> None:
    """Read messages up to the first of type ``kind``; fail if none comes within 20 s of another."""
    while json.loads(ws.recv(20))["type"] != kind:
        pass


@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.slow)])
def test_camera_is_streamed_for_the_requested_number_of_seconds(
    mmduet: Command, served: RunningServer, tmp_path: Path, transport: str
) -> None:
    out, server = tmp_path / "out.jsonl", f"127.0.0.1:{served.port}"
    with run_rtsp_server(password="s3cret") as camera:
        address = f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film"
        options = ("--transport", transport, "--seconds", 1.5, "--no-query", "--fps", 4, "--output", out)
        done = mmduet("stream", address, "--server", server, *options)
    assert done.status == 0
    assert "s3cret" not in done.out + done.err + out.read_text()
    times = [event["time"] for event in of_type(read_events(out), "scores")]
    assert len(times) in (5, 6, 7)
    assert times == pytest.approx([i * 0.25 for i in range(len(times))], abs=0.01)


def test_missing_webcam_is_reported_by_name(mmduet: Command, served: RunningServer) -> None:
    done = mmduet("stream", "webcam:9", "--server", f"127.0.0.1:{served.port}")
    assert (done.status, "webcam:9" in done.err) == (4, True)
