"""``mmduet stream`` against a server: what it shows and writes is what ``mmduet run`` shows and writes."""

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
from command_line import SECONDS, TALKING, Command, events, in_process, of_type, write_video
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


def sending(served: RunningServer, *more: object) -> tuple:
    return ("--server", f"127.0.0.1:{served.port}", "--fast", "--encoding", "raw", *TALKING[2:], *more)


def test_it_shows_and_writes_what_run_does(mmduet: Command, served: RunningServer, video: Path, tmp_path: Path) -> None:
    turns = ("--query", "What?@1.1", "--context", "A bell rings.@2", "--query", "And?@9")
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    run = mmduet("run", video, *TALKING, *turns, "--output", here, "--scores")
    stream = mmduet("stream", video, *sending(served), *turns, "--output", there, "--scores")
    assert (run.status, stream.status) == (0, 0)
    assert stream.out == run.out
    for one, other in zip(of_type(events(here), "scores"), of_type(events(there), "scores"), strict=True):
        assert one["informative"] == pytest.approx(other["informative"], abs=1e-5)
        assert (one["time"], one["speak"]) == (other["time"], other["speak"])
    words = [[event["text"] for event in of_type(events(file), "reply")] for file in (here, there)]
    assert words[0] == words[1] != []


def test_pictures_and_subtitles_are_written_too(
    mmduet: Command, served: RunningServer, video: Path, tmp_path: Path
) -> None:
    plot, vtt = tmp_path / "a.png", tmp_path / "a.vtt"
    assert mmduet("stream", video, *sending(served, "--plot", plot, "--subtitles", vtt, "--quiet")).status == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert vtt.read_text().startswith("WEBVTT")


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--server", "127.0.0.1:9"), 10, "is a server running there"),
        (("--server", "ftp://x"), 2, "is not a valid address"),
        (("--fps", "0"), 2, "--fps"),
        (("--speak", "loud"), 2, "speak policy"),
        (("--query", "a", "--no-query"), 2, "contradict"),
    ],
)
def test_what_cannot_be_done_is_told(mmduet: Command, video: Path, more: tuple, status: int, words: str) -> None:
    done = mmduet("stream", video, *more)
    assert done.status == status
    assert words in done.err


def test_a_window_that_the_server_refuses_ends_it(mmduet: Command, served: RunningServer, video: Path) -> None:
    done = mmduet("stream", video, *sending(served, "--window", "100000"))
    assert done.status == 2
    assert "100000 frames" in done.err


# a server of its own process


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    log = (tmp_path / "server.log").open("w")
    command = [sys.executable, "-m", "mmduet", "serve", "--model", "random:tiny", "--port", "0", "--log-json"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert "mmduet serves random:tiny at ws://127.0.0.1:" in line, (tmp_path / "server.log").read_text()
    try:
        yield server, int(line.split("127.0.0.1:")[1].split("/")[0])
    finally:
        server.kill()
        server.wait()


def test_a_server_that_is_told_to_stop_lets_replies_finish(
    process: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    server, port = process
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    with connect(url, legacy=True) as ws, connect(url, legacy=True) as idle:
        setting = {"type": "realtime", "max_output_tokens": 400, "duet": {"window": None}}
        ws.send(json.dumps({"type": "session.update", "session": setting}))
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell."}]}
        ws.send(json.dumps({"type": "conversation.item.create", "item": item}))
        ws.send(json.dumps({"type": "response.create"}))
        told = [json.loads(ws.recv(20))]
        while told[-1]["type"] != "response.created":
            told.append(json.loads(ws.recv(20)))
        server.send_signal(signal.SIGTERM)
        with suppress(ConnectionClosed):
            while True:
                told.append(json.loads(ws.recv(30)))
        assert ws.close_code == 1012
        kinds = [event["type"] for event in told]
        assert kinds.index("session.go_away") < kinds.index("response.done")
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


def test_a_second_signal_ends_the_server_during_a_reply(process: tuple[subprocess.Popen[str], int]) -> None:
    """The reply takes several seconds, so the server is still waiting for it when the second signal comes."""
    server, port = process
    with connect(f"ws://127.0.0.1:{port}/v1/realtime", legacy=True) as ws:
        setting = {"type": "realtime", "max_output_tokens": 3_800, "duet": {"window": None}}
        ws.send(json.dumps({"type": "session.update", "session": setting}))
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell."}]}
        ws.send(json.dumps({"type": "conversation.item.create", "item": item}))
        ws.send(json.dumps({"type": "response.create"}))
        receive_until(ws, "response.created")
        server.send_signal(signal.SIGINT)
        receive_until(ws, "session.go_away")
        time.sleep(0.5)
        assert server.poll() is None, "the first signal waits for the reply"
        server.send_signal(signal.SIGINT)
        server.wait(2)
        with suppress(ConnectionClosed):
            while True:
                assert json.loads(ws.recv(5))["type"] != "response.done", "the reply was finished first"


def receive_until(ws: Any, kind: str) -> None:
    """Read messages up to the first of type ``kind``; fail if none comes within 20 s of another."""
    while json.loads(ws.recv(20))["type"] != kind:
        pass


def test_a_camera_is_shown_as_it_comes_and_for_so_long_as_was_said(
    mmduet: Command, served: RunningServer, tmp_path: Path
) -> None:
    out, server = tmp_path / "out.jsonl", f"127.0.0.1:{served.port}"
    with run_rtsp_server(password="s3cret") as camera:
        address = f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film"
        for transport in ("tcp", "udp"):
            more = ("--transport", transport, "--seconds", 1.5, "--no-query", "--fps", 4, "--output", out)
            done = mmduet("stream", address, "--server", server, *more)
            assert done.status == 0
            assert "s3cret" not in done.out + done.err + out.read_text()
            times = [event["time"] for event in of_type(events(out), "scores")]
            assert len(times) in (5, 6, 7)
            assert times == pytest.approx([i * 0.25 for i in range(len(times))], abs=0.01)


def test_a_webcam_that_is_not_there_is_named(mmduet: Command, served: RunningServer) -> None:
    done = mmduet("stream", "webcam:9", "--server", f"127.0.0.1:{served.port}")
    assert (done.status, "webcam:9" in done.err) == (4, True)
