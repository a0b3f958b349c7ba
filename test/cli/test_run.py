"""``mmduet run`` from the outside: what it shows, writes and returns for videos that are well, damaged or absent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import (
    MODEL,
    TALKING,
    Command,
    Done,
    Terminal,
    check_plot,
    check_subtitles,
    events,
    of_type,
    write_video,
)
from safetensors.torch import save_file

from mmduet.cli._session_io import run_session
from mmduet.engine import Engine, EngineThread
from mmduet.events import Frame, Output, Scores, StreamEnded
from mmduet.model import load_model
from mmduet.options import SessionOptions

# what it does


def test_everything_it_writes_tells_the_same(run: Command, video: Path, tmp_path: Path) -> None:
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    done = run(video, *TALKING, "--query", "What is this?", "--output", log, "--plot", plot, "--subtitles", subtitles)
    assert done.status == 0, done.err
    found = events(log)
    frames, replies = of_type(found, "scores"), of_type(found, "reply")
    assert [frame["frame"] for frame in frames] == list(range(12))
    assert found[-1] == {"type": "stream_ended", "frames": 12, "duration": pytest.approx(2.75)}
    assert len(replies) >= 2
    for reply in replies:
        deltas = [event["text"] for event in of_type(found, "reply_delta") if event["reply"] == reply["reply"]]
        assert "".join(deltas) == reply["text"]
    assert done.turns[0] == "    0.00s  user       What is this?"
    assert [line.split()[:2] for line in done.turns[1:]] == [[f"{r['time']:.2f}s", "assistant"] for r in replies]
    assert done.err.startswith(f"12 frames, 2.75 s of video, {len(replies)} replies, ")
    assert len(done.err.splitlines()) == 1
    assert check_subtitles(subtitles) == len([reply for reply in replies if reply["text"].strip()])
    check_plot(plot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.png", "a.vtt"]


def test_two_queries_and_a_context_are_read_at_their_times(run: Command, video: Path, tmp_path: Path) -> None:
    turns = ("--query", "Later, at mail@home?@1.5", "--query", "First, @all", "--context", "A transcript line.@0.6")
    done = run(video, *MODEL, "--speak", "never", "--fps", "4", *turns, "--output", tmp_path / "a.jsonl")
    assert done.status == 0, done.err
    read = of_type(events(tmp_path / "a.jsonl"), "query_read")
    told = [(event["query"]["text"], event["time"]) for event in read]
    assert told == [("First, @all", 0.0), ("Later, at mail@home?", 1.5)]
    (context,) = of_type(events(tmp_path / "a.jsonl"), "context_read")
    assert (context["context"]["text"], context["time"]) == ("A transcript line.", 0.6)
    assert [line.split()[:2] for line in done.turns] == [["0.00s", "user"], ["0.60s", "system"], ["1.50s", "user"]]


def test_it_waits_to_be_asked_unless_it_never_will_be(run: Command, video: Path, tmp_path: Path) -> None:
    def spoken(*more: str) -> list[float]:
        assert run(video, *TALKING, *more, "--output", tmp_path / "a.jsonl").status == 0
        return [event["time"] for event in of_type(events(tmp_path / "a.jsonl"), "reply_started")]

    assert min(spoken("--no-query")) < 1.5 <= min(spoken("--query", "What?@1.5"))


def test_a_context_changes_what_is_seen_after_it(run: Command, video: Path, tmp_path: Path) -> None:
    def seen(*turns: str) -> list[float]:
        log = tmp_path / "a.jsonl"
        assert run(video, *MODEL, "--speak", "never", "--fps", "4", *turns, "--output", log).status == 0
        return [event["informative"] for event in of_type(events(log), "scores")]

    plain, told = seen(), seen("--context", "A door opens.@1.5")
    assert told[:6] == pytest.approx(plain[:6], abs=1e-5)
    assert abs(told[6] - plain[6]) > 1e-5


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [((), ["Narrate the scene."]), (("--no-query",), []), (("--query", "What?@0.5"), ["What?"])],
)
def test_the_models_own_query_is_asked_where_nothing_else_is(
    run: Command, video: Path, tmp_path: Path, arguments: tuple[str, ...], asked: list[str]
) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, "--model", "random:nano", "--speak", "never", "--max-frames", "3", "--output", log, *arguments)
    assert done.status == 0, done.err
    found = events(log)
    assert [event["query"]["text"] for event in of_type(found, "query_read")] == asked
    assert [event["time"] for event in of_type(found, "scores")] == [0.0, 0.25, 0.5]  # at nano's four a second


@pytest.mark.parametrize("keep", ["--keep-replies", "--remove-replies"])
def test_the_paper_profile_runs(run: Command, video: Path, tmp_path: Path, keep: str) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, *TALKING, "--profile", "paper", keep, "--query", "What?", "--output", log)
    assert done.status == 0, done.err
    found = events(log)
    assert len(of_type(found, "reply")) >= 2
    assert found[-1]["frames"] == 12


def test_scores_are_a_line_per_frame_and_quiet_is_quiet(run: Command, video: Path) -> None:
    done = run(video, *TALKING, "--scores")
    assert sum(" scores  " in line and "relevance 0." in line for line in done.turns) == 12
    assert run(video, *TALKING, "--quiet") == Done(0, "", "")


def test_the_same_seed_says_the_same(run: Command, video: Path) -> None:
    sampled = (*TALKING, "--temperature", "2", "--top-p", "0.9", "--repetition-penalty", "1.1", "--seed")
    first, again, other = (run(video, *sampled, seed).out for seed in (1, 1, 2))
    assert first == again != other


def test_realtime_takes_the_time_of_the_video(run: Command, video: Path) -> None:
    start = time.monotonic()
    assert run(video, *MODEL, "--realtime", "--max-frames", "4", "--fps", "2", "--quiet").status == 0
    assert time.monotonic() - start >= 1.5


def test_nothing_that_steers_a_terminal_reaches_a_pipe(
    run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = run(video, *TALKING, "--scores", "--query", "red \x1b[31m\x07\nor not?")
    assert done.status == 0, done.err
    assert "red \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} or not?" in done.turns[0]
    assert all(char.isprintable() or char == "\n" for char in done.out + done.err)


def test_a_terminal_shows_scores_below_and_keeps_the_turns(
    run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    done = run(video, *TALKING, "--query", "What is this?")
    assert done.status == 0, done.err
    assert "\x1b[2K" in terminal.getvalue()
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"0\.00s  user       What is this\?", shown)
    assert "informative  ━" in shown
    assert "12 frames in view" in shown


# what it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--query", "What?@-3"), "-3"),
        (("--query", "@4"), "no text"),
        (("--query", ""), "no text"),
        (("--query", f"What?@{'9' * 400}"), "from 0 up"),
        (("--context", "A line.@-0.5"), "--context"),
        (("--query", "What?", "--no-query"), "contradict"),
        (("--speak", "shout"), "threshold:VALUE"),
        (("--speak", "threshold:high"), "high"),
        (("--score-heads", "novelty"), "novelty"),
        (("--score-heads", ","), "none"),
        (("--min-interval", "-1"), "min_interval"),
        (
            ("--window", "wide"),
            "window must be a number of frames, seconds as in 6s, or none to keep every frame, got 'wide'",
        ),
        (("--window", "0"), "window must be at least 1 frame, or none, got 0"),
        (("--window", "0s"), "window must be at least 1 frame, or none, got 0"),
        (("--window", "infs"), "seconds as in 6s"),
        (("--window", "100000"), "smaller window"),
        (("--fps", "0"), "--fps"),
        (("--max-frames", "0"), "max_frames"),
        (("--max-new-tokens", "0"), "max_new_tokens"),
        (("--temperature", "-1"), "temperature"),
        (("--top-p", "0"), "top_p"),
        (("--output", "nowhere/a.jsonl"), "nowhere"),
        (("--output", "."), "folder"),
        (("--plot", "a.bmp"), ".png"),
        (("--subtitles", "a.txt"), ".vtt, .srt"),
        (("--plot", "a.png", "--output", "a.png"), "its own file"),
    ],
)
def test_options_that_cannot_be_used(
    run: Command, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(video, *MODEL, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error[bad_option]: ")
    assert words in done.err
    assert list(tmp_path.iterdir()) == []


def test_the_video_is_never_written_over(run: Command, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 1)
    before = clip.read_bytes()
    assert run(clip, *MODEL, "--output", clip).status == 2
    assert clip.read_bytes() == before


def test_an_adapter_changes_what_the_model_scores(run: Command, video: Path, tmp_path: Path) -> None:
    """The informative head of this one is all zeros."""
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"base_model.model.heads.informative.weight": torch.zeros(2, 48)}, tmp_path / "adapter_model.safetensors")
    plain, adapted = tmp_path / "plain.jsonl", tmp_path / "adapted.jsonl"
    assert run(video, *MODEL, "--output", plain).status == 0
    assert run(video, *MODEL, "--adapter", tmp_path, "--output", adapted).status == 0
    informative = [
        [e["informative"] for e in map(json.loads, f.open()) if "informative" in e] for f in (plain, adapted)
    ]
    assert set(informative[1]) == {0.5}  # a head of zeros cannot decide
    assert len(informative[0]) == len(informative[1])
    assert 0.5 not in informative[0]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [(("--model", "no-such"), 5, "model_not_found"), ((*MODEL, "--adapter", "some"), 5, "model_not_found")],
)
def test_models_that_cannot_be_had(
    run: Command, video: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, code: str
) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text("the last run's\n")
    done = run(video, *arguments, "--output", log)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(f"error[{code}]: ")
    assert log.read_text() == "the last run's\n"


def write_audio(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    return path


def test_files_that_are_no_video(run: Command, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    cases = (
        (tmp_path / "missing.mp4", "video_not_found"),
        (write_audio(tmp_path / "sound.wav"), "no_video_stream"),
        (tmp_path / "text.mp4", "corrupt_video"),
        (tmp_path, "bad_video"),
    )
    for path, code in cases:
        done = run(path, *MODEL)
        assert (done.status, done.out) == (4, "")
        assert done.err.startswith(f"error[{code}]: ")
        assert path.name in done.err


# what ends it early


def test_damage_in_the_middle_leaves_what_came_before(run: Command, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 6).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    done = run(cut, *TALKING, "--query", "What?", "--output", log, "--plot", plot, "--subtitles", subtitles)
    assert done.status == 4
    summary, error = done.err.splitlines()
    assert error.startswith("error[corrupt_video]: ")
    frames = of_type(events(log), "scores")
    assert 4 < len(frames) < 24
    assert summary.startswith(f"{len(frames)} frames, ")
    assert len(done.turns) == 1 + len(of_type(events(log), "reply"))
    assert check_subtitles(subtitles)
    check_plot(plot)


def test_a_session_that_cannot_go_on_says_why(run: Command, video: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, *TALKING, "--window", "4", "--query", f"{'why ' * 200}?@1", "--output", log)
    assert done.status == 7
    assert "error[no_capacity]: " in done.err
    assert "text_tokens" in done.err
    assert log.read_text() == ""  # before the first frame


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


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Programs started here heed Ctrl-C, even where the tests run in the background and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files(tmp_path: Path, number: signal.Signals, status: int) -> None:
    clip = write_video(tmp_path / "long.mp4", 300, fps=4)
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    command = [sys.executable, "-m", "mmduet", "run", clip, *TALKING, "--realtime", "--threads", "1"]
    command += ["--output", log, "--plot", plot, "--subtitles", subtitles]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},  # a reply may hold what the pipe cannot
    )
    with process:
        until(lambda: log.exists() and '"reply"' in log.read_text(), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "assistant" in out
    found = events(log)
    assert of_type(found, "reply")
    assert not of_type(found, "stream_ended")
    check_subtitles(subtitles)
    check_plot(plot)
    assert not list(tmp_path.glob(".*"))
