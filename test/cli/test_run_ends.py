"""How ``mmduet run`` ends before the video does: truncated videos, failed sessions, errors in the source, and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import (
    MODEL,
    TALKING,
    Command,
    CommandResult,
    check_plot,
    check_subtitles,
    of_type,
    read_events,
    write_video,
)

from mmduet.cli._session_io import run_session
from mmduet.engine import Engine, EngineThread
from mmduet.events import Frame, Output, Scores, StreamEnded
from mmduet.model import load_model
from mmduet.options import SessionOptions

PYTHON_NAME = re.compile(r"[a-z]_[a-z]")


@pytest.mark.parametrize("strict", [False, True])
def test_truncated_video_is_processed_up_to_its_end(
    run: Command, mmduet: Command, tmp_path: Path, strict: bool
) -> None:
    whole = write_video(tmp_path / "whole.mp4", 6).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    files = ("--output", log, "--plot", plot, "--subtitles", subtitles)
    done = run(cut, *TALKING, "--query", "What?", *files, *["--strict-video"] * strict)
    if strict:
        assert done.status == 4
        summary, message = done.err.splitlines()
        assert message.startswith("error[corrupt_video]: ")
    else:
        assert done.status == 0
        message, summary = done.err.splitlines()
        damage = read_events(log)[-1]["damage"]
        assert message == f"{cut.name}: warning[damaged_video]: the video is cut off at {damage['truncated_at']:.2f} s"
        assert (damage["skipped"], damage["spans"]) == (0, [])
        assert run(cut, *TALKING, "--quiet") == CommandResult(0, "", f"{message}\n")
    frames = of_type(read_events(log), "scores")
    assert 4 < len(frames) < 24
    assert summary.startswith(f"{len(frames)} frames, ")
    if not strict:
        assert f", {damage['truncated_at']:.2f} s of video, " in summary
        caption = tmp_path / "caption.json"
        assert mmduet("caption", cut, *MODEL, "--fps", "4", "--output", caption).status == 0
        (entry,) = json.loads(caption.read_text())["videos"]
        assert entry["duration"] == pytest.approx(damage["truncated_at"])
    assert len(done.lines) == 1 + len(of_type(read_events(log), "reply"))
    assert check_subtitles(subtitles)
    check_plot(plot)


def test_failed_session_is_reported(run: Command, video: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, *TALKING, "--window", "4", "--query", f"{'why ' * 200}?@1", "--output", log)
    assert done.status == 7
    assert "error[no_capacity]: " in done.err
    assert "are used; shorten it, or use no window" in done.err
    assert "text_tokens" not in done.err
    assert log.read_text() == ""  # before the first frame


def test_a_session_that_is_too_long_says_what_can_be_changed(run: Command, video: Path) -> None:
    for arguments, remedy in {
        ("--window", "4", "--max-new-tokens", "100000"): "use a smaller window or shorter replies",
        ("--window", "none", "--query", "why " * 2000): "or shorter texts",
    }.items():
        done = run(video, *MODEL, *arguments)
        assert done.status in (2, 7)
        assert remedy in done.err
        assert not PYTHON_NAME.search(done.err.partition("]: ")[2])


def test_an_error_in_the_source_is_raised_after_the_outputs_before_it() -> None:
    def source() -> Iterator[Frame]:
        yield Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8))
        raise ZeroDivisionError("in the decoder")

    outputs: list[Output] = []
    with EngineThread(Engine(load_model("random:tiny"))) as thread:
        stream = thread.open(SessionOptions().without_query())
        with pytest.raises(ZeroDivisionError, match="in the decoder"):
            run_session(stream, source(), [outputs.append], strip=None, stop=threading.Event(), close=stream.close)
    assert (type(outputs[0]), type(outputs[-1])) == (Scores, StreamEnded)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let child processes handle SIGINT, which they would inherit as ignored if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", 300, fps=4)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_complete_files(long_clip: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    command = [sys.executable, "-m", "mmduet", "run", long_clip, *TALKING, "--realtime", "--threads", "1"]
    command += ["--output", log, "--plot", plot, "--subtitles", subtitles]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},  # replies may have characters that the pipe cannot encode
    )
    with process:
        wait_until(lambda: log.exists() and '"reply"' in log.read_text(), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "assistant" in out
    logged = read_events(log)
    assert of_type(logged, "reply")
    assert not of_type(logged, "stream_ended")
    check_subtitles(subtitles)
    check_plot(plot)
    assert not list(tmp_path.glob(".*"))
