"""``mmduet run`` as a command: output, files and exit status for intact, damaged and missing videos."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_line import (
    MODEL,
    TALKING,
    Command,
    CommandResult,
    Terminal,
    check_plot,
    check_subtitles,
    of_type,
    read_events,
    write_late_video,
    write_video,
)
from safetensors.torch import save_file

PYTHON_NAME = re.compile(r"[a-z]_[a-z]")

# output


def test_log_plot_subtitles_and_terminal_agree(run: Command, video: Path, tmp_path: Path) -> None:
    log, plot, subtitles = tmp_path / "a.jsonl", tmp_path / "a.png", tmp_path / "a.vtt"
    done = run(video, *TALKING, "--query", "What is this?", "--output", log, "--plot", plot, "--subtitles", subtitles)
    assert done.status == 0, done.err
    logged = read_events(log)
    frames, replies = of_type(logged, "scores"), of_type(logged, "reply")
    assert [frame["frame"] for frame in frames] == list(range(12))
    undamaged = {"skipped": 0, "spans": [], "truncated_at": None}
    assert logged[-1] == {"type": "stream_ended", "frames": 12, "duration": pytest.approx(2.75), "damage": undamaged}
    assert len(replies) >= 2
    for reply in replies:
        deltas = [event["text"] for event in of_type(logged, "reply_delta") if event["reply"] == reply["reply"]]
        assert "".join(deltas) == reply["text"]
    assert done.lines[0] == "    0.00s  user       What is this?"
    assert [line.split()[:2] for line in done.lines[1:]] == [[f"{r['time']:.2f}s", "assistant"] for r in replies]
    assert done.err.startswith(f"12 frames, 3.00 s of video, {len(replies)} replies, ")
    assert len(done.err.splitlines()) == 1
    assert check_subtitles(subtitles) == len([reply for reply in replies if reply["text"].strip()])
    check_plot(plot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.png", "a.vtt"]


def test_queries_and_context_are_read_at_their_times(run: Command, video: Path, tmp_path: Path) -> None:
    turns = ("--query", "Later, at mail@home?@1.5", "--query", "First, @all", "--context", "A transcript line.@0.6")
    done = run(video, *MODEL, "--speak", "never", "--fps", "4", *turns, "--output", tmp_path / "a.jsonl")
    assert done.status == 0, done.err
    queries = of_type(read_events(tmp_path / "a.jsonl"), "query_read")
    assert [(event["query"]["text"], event["time"]) for event in queries] == [
        ("First, @all", 0.0),
        ("Later, at mail@home?", 1.5),
    ]
    (context,) = of_type(read_events(tmp_path / "a.jsonl"), "context_read")
    assert (context["context"]["text"], context["time"]) == ("A transcript line.", 0.6)
    assert [line.split()[:2] for line in done.lines] == [["0.00s", "user"], ["0.60s", "system"], ["1.50s", "user"]]


def test_a_query_for_a_time_after_the_end_is_shown_at_the_end(run: Command, video: Path) -> None:
    done = run(video, *TALKING, "--query", "And now?@500")
    assert done.lines[0] == "    2.75s  user       And now? (requested for 500.00 s, after the end)"
    assert [line.split()[:2] for line in done.lines[1:]] == [["2.75s", "assistant"]]


def test_replies_wait_for_the_query_unless_there_is_none(run: Command, video: Path, tmp_path: Path) -> None:
    def reply_times(*query: str) -> list[float]:
        assert run(video, *TALKING, *query, "--output", tmp_path / "a.jsonl").status == 0
        return [event["time"] for event in of_type(read_events(tmp_path / "a.jsonl"), "reply_started")]

    assert min(reply_times("--no-query")) < 1.5 <= min(reply_times("--query", "What?@1.5"))


def test_context_changes_only_the_scores_after_it(run: Command, video: Path, tmp_path: Path) -> None:
    def informative_scores(*turns: str) -> list[float]:
        log = tmp_path / "a.jsonl"
        assert run(video, *MODEL, "--speak", "never", "--fps", "4", *turns, "--output", log).status == 0
        return [event["informative"] for event in of_type(read_events(log), "scores")]

    plain, with_context = informative_scores(), informative_scores("--context", "A door opens.@1.5")
    assert with_context[:6] == pytest.approx(plain[:6], abs=1e-5)
    assert abs(with_context[6] - plain[6]) > 1e-5


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [((), ["Narrate the scene."]), (("--no-query",), []), (("--query", "What?@0.5"), ["What?"])],
)
def test_default_query_is_used_if_no_query_option_is_given(
    run: Command, video: Path, tmp_path: Path, arguments: tuple[str, ...], queries: list[str]
) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, "--model", "random:nano", "--speak", "never", "--max-frames", "3", "--output", log, *arguments)
    assert done.status == 0, done.err
    logged = read_events(log)
    assert [event["query"]["text"] for event in of_type(logged, "query_read")] == queries
    assert [event["time"] for event in of_type(logged, "scores")] == [0.0, 0.25, 0.5]  # nano's default of 4 fps


@pytest.mark.parametrize("keep", ["--keep-replies", "--remove-replies"])
def test_the_paper_profile_runs(run: Command, video: Path, tmp_path: Path, keep: str) -> None:
    log = tmp_path / "a.jsonl"
    done = run(video, *TALKING, "--profile", "paper", keep, "--query", "What?", "--output", log)
    assert done.status == 0, done.err
    logged = read_events(log)
    assert len(of_type(logged, "reply")) >= 2
    assert logged[-1]["frames"] == 12


def test_scores_prints_a_line_per_frame_and_quiet_prints_nothing(run: Command, video: Path) -> None:
    done = run(video, *TALKING, "--scores")
    assert sum(" scores  " in line and "relevance 0." in line for line in done.lines) == 12
    assert run(video, *TALKING, "--quiet") == CommandResult(0, "", "")


def test_seed_determines_sampled_replies(run: Command, video: Path) -> None:
    sampled = (*TALKING, "--temperature", "2", "--top-p", "0.9", "--repetition-penalty", "1.1", "--seed")
    first, repeated, other = (run(video, *sampled, seed).out for seed in (1, 1, 2))
    assert first == repeated != other


def test_realtime_takes_as_long_as_the_video(run: Command, video: Path) -> None:
    start = time.monotonic()
    assert run(video, *MODEL, "--realtime", "--max-frames", "4", "--fps", "2", "--quiet").status == 0
    assert time.monotonic() - start >= 1.5


def test_piped_output_has_no_terminal_control_characters(
    run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = run(video, *TALKING, "--scores", "--query", "red \x1b[31m\x07\nor not?")
    assert done.status == 0, done.err
    assert "red \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} or not?" in done.lines[0]
    assert all(char.isprintable() or char == "\n" for char in done.out + done.err)


def test_terminal_shows_live_scores_below_the_turns(run: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    done = run(video, *TALKING, "--query", "What is this?")
    assert done.status == 0, done.err
    assert "\x1b[2K" in terminal.getvalue()
    displayed = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"0\.00s  user       What is this\?", displayed)
    assert "informative  ━" in displayed
    assert "12 frames in view" in displayed


# rejected arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (("--min-interval", "-1"), "--min-interval must be"),
        (
            ("--window", "wide"),
            "window must be a number of frames, seconds as in 6s, or none to keep every frame, got 'wide'",
        ),
        (("--window", "0"), "window must be at least 1 frame, or none, got 0"),
        (("--window", "0s"), "window must be at least 1 frame, or none, got 0"),
        (("--window", "infs"), "seconds as in 6s"),
        (("--window", "100000"), "smaller window"),
        (("--fps", "0"), "--fps"),
        (("--max-frames", "0"), "--max-frames must be"),
        (("--max-new-tokens", "0"), "--max-new-tokens must be"),
        (("--temperature", "-1"), "temperature"),
        (("--top-p", "0"), "--top-p must be"),
        (("--output", "nowhere/a.jsonl"), "nowhere"),
        (("--output", "."), "folder"),
        (("--plot", "a.bmp"), ".png"),
        (("--subtitles", "a.txt"), ".vtt, .srt"),
        (("--plot", "a.png", "--output", "a.png"), "its own file"),
    ],
)
def test_invalid_options_are_rejected(
    run: Command, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(video, *MODEL, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error[bad_option]: ")
    assert message in done.err
    assert not PYTHON_NAME.search(done.err.partition("]: ")[2])
    assert list(tmp_path.iterdir()) == []


def test_output_never_overwrites_the_video(run: Command, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 1)
    before = clip.read_bytes()
    assert run(clip, *MODEL, "--output", clip).status == 2
    assert clip.read_bytes() == before


def test_adapter_changes_the_scores(run: Command, video: Path, tmp_path: Path) -> None:
    """The informative head of the adapter is all zeros, so both of its classes get the same probability."""
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"base_model.model.heads.informative.weight": torch.zeros(2, 48)}, tmp_path / "adapter_model.safetensors")
    plain, adapted = tmp_path / "plain.jsonl", tmp_path / "adapted.jsonl"
    assert run(video, *MODEL, "--output", plain).status == 0
    assert run(video, *MODEL, "--adapter", tmp_path, "--output", adapted).status == 0
    informative = [
        [e["informative"] for e in map(json.loads, f.open()) if "informative" in e] for f in (plain, adapted)
    ]
    assert set(informative[1]) == {0.5}
    assert len(informative[0]) == len(informative[1])
    assert 0.5 not in informative[0]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [(("--model", "no-such"), 5, "model_not_found"), ((*MODEL, "--adapter", "some"), 5, "model_not_found")],
)
def test_missing_models_and_adapters_are_reported_and_keep_the_old_file(
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


def test_files_that_are_not_videos_are_rejected(run: Command, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_subtitles_use_the_clock_of_the_container_and_end_with_the_video(
    run: Command, tmp_path: Path, name: str
) -> None:
    """A player counts from the sound, which starts 1.5 s before the video."""
    video, log, subtitles = write_late_video(tmp_path / name, 3, 1.5), tmp_path / "a.jsonl", tmp_path / "a.srt"
    assert run(video, *TALKING, "--query", "What?", "--output", log, "--subtitles", subtitles).status == 0
    times = [event["time"] for event in of_type(read_events(log), "reply") if event["text"].strip()]
    cues = [cue.splitlines()[1].split(" --> ") for cue in subtitles.read_text().strip().split("\n\n")]
    starts, ends = (sorted({to_seconds(cue[k]) for cue in cues}) for k in (0, 1))
    assert starts == pytest.approx(sorted({1.5 + time for time in times}), abs=0.1)  # AAC starts 64 ms early
    assert ends[-1] == pytest.approx(4.5, abs=0.1)


def to_seconds(text: str) -> float:
    """Return the seconds of a time in a SubRip file."""
    hours, minutes, seconds = text.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """Send ``data`` to this process's standard input through a pipe."""
    before, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    sender = threading.Thread(target=lambda: [os.write(writing, data), os.close(writing)])
    sender.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        sender.join()


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_video_is_read_from_standard_input(run: Command, video: Path, tmp_path: Path, name: str) -> None:
    expected = run(video, *TALKING, "--query", "What?")
    with standard_input(video.read_bytes()):
        done = run(name, *TALKING, "--query", "What?")
    assert (done.status, done.out) == (0, expected.out)
    with standard_input(b""):
        done = run(name, *TALKING)
    assert done == CommandResult(4, "", "error[corrupt_video]: standard input is empty; send a video to it\n")


def test_a_named_pipe_is_rejected(run: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = run(tmp_path / "pipe", *TALKING)
    assert done.status == 4
    assert "can be read only once; send it to `mmduet run -`" in done.err


def test_a_video_of_one_frame_lasts_as_long_as_its_frame(run: Command, mmduet: Command, tmp_path: Path) -> None:
    video = write_video(tmp_path / "one.mp4", 1 / 8)
    assert run(video, *MODEL).err.startswith("1 frame, 0.12 s of video, ")
    assert mmduet("highlight", video, *MODEL, "--query", "What?").out.startswith("one.mp4: 1 frame, 0.12 s, ")
