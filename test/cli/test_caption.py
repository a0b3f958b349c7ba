"""``mmduet caption``, and with it what all commands of the tasks share: files, several videos, a server, failures."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command_line import MODEL, Command, Done, Terminal, check_plot, check_subtitles, in_process, write_video
from live_server import RunningServer, run_test_server
from task_commands import report, tables

from mmduet.model import load_model

TALKING = (*MODEL, "--fps", "4", "--speak", "sum:1")


@pytest.fixture
def caption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "caption")


def test_it_tells_what_happens_in_order(caption: Command, clips: Any, tmp_path: Path) -> None:
    files = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.vtt")
    done = caption(*(clips.video(k) for k in range(3)), *files)
    assert (done.status, done.err) == (0, "")
    found = tables(done)
    assert list(found) == [clip["video"] for clip in clips.truth]
    told, true = [], []
    for clip, video in zip(clips.truth, report(tmp_path / "a.json")["videos"], strict=True):
        rows = found[clip["video"]]
        segments = [(s["start"], s["end"], s["caption"]) for s in video["segments"]]
        assert rows == [[f"{start:.2f}", f"{end:.2f}", text] for start, end, text in segments]
        assert video["duration"] == pytest.approx(clip["duration"], abs=0.1)
        told += [text for _, _, text in segments]
        true += [event["text"] for event in clip["events"]]
        stem = Path(clip["video"]).stem
        check_plot(tmp_path / f"a-{stem}.png")
        assert check_subtitles(tmp_path / f"a-{stem}.vtt") == len(segments)
    assert len(set(told) & set(true)) >= 0.8 * len(true)
    assert len(told) <= len(true) + 2
    assert len(list(tmp_path.iterdir())) == 7


def test_one_video_keeps_the_names_of_its_files(caption: Command, clips: Any, tmp_path: Path) -> None:
    done = caption(clips.video(0), "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.srt", "--quiet")
    assert done == Done(0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.srt"]
    cues = (tmp_path / "a.srt").read_text().rstrip("\n").split("\n\n")
    assert [cue.splitlines()[0] for cue in cues] == [str(k) for k in range(1, len(cues) + 1)]
    assert cues[0].splitlines()[2] == clips.truth[0]["events"][0]["text"]


def test_videos_that_fail_are_told_and_the_others_go_on(caption: Command, video: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 6).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    given = (tmp_path / "none.mp4", video, tmp_path / "cut.mp4", tmp_path / "whole.mp4")
    done = caption(*given, *TALKING, "--output", tmp_path / "a.json")
    assert done.status == 1
    assert list(tables(done)) == ["clip.mp4", "cut.mp4", "whole.mp4"]  # what came before the damage is watched
    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["error[video_not_found]", "error[corrupt_video]"]
    videos = report(tmp_path / "a.json")["videos"]
    assert [entry["video"] for entry in videos] == [str(path) for path in given]
    assert ["error" in entry for entry in videos] == [True, False, True, False]
    assert videos[0]["error"]["code"] == "video_not_found"
    seen, all_of_it = ([score["time"] for score in entry["scores"]] for entry in videos[2:])
    assert 0 < len(seen) < len(all_of_it)
    assert seen == all_of_it[: len(seen)]


@pytest.mark.parametrize("at_once", ["1", "3"])
def test_how_many_are_watched_at_once_changes_nothing(
    caption: Command, clips: Any, tmp_path: Path, at_once: str
) -> None:
    given = [clips.video(k) for k in range(3)]
    alone = "".join(caption(path).out for path in given)
    assert caption(*given, "--at-once", at_once).out == alone


def test_one_video_that_fails_is_the_commands_failure(caption: Command, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("the last run's")
    done = caption(tmp_path / "none.mp4", *TALKING, "--output", tmp_path / "a.json")
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith("error[video_not_found]: ")
    assert (tmp_path / "a.json").read_text() == "the last run's"


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--query", " "), 2, "no text"),
        (("--fps", "0"), 2, "--fps"),
        (("--speak", "loudly"), 2, "speak policy"),
        (("--subtitles", "a.txt"), 2, ".vtt, .srt"),
        (("--plot", "a.bmp"), 2, ".png"),
        (("--output", "nowhere/a.json"), 2, "nowhere"),
        (("--at-once", "0"), 2, "at-once"),
        (("--server", "127.0.0.1:9"), 10, "is a server running there"),
        (("--server", "ftp://x"), 2, "is not a valid address"),
        (("--model", "none-such"), 5, "none-such"),
        (("--server", "x", "--model", "nano"), 2, "contradict"),
        (("--server", "x", "--adapter", "some"), 2, "contradict"),
    ],
)
def test_what_cannot_be_done_is_told(
    caption: Command, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple, status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = caption(video, *more)
    assert (done.status, done.out) == (status, "")
    assert words in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_video_is_never_written_over_nor_two_files_into_one(caption: Command, video: Path, tmp_path: Path) -> None:
    twin = write_video(tmp_path / "clip.mp4", 1)
    before = twin.read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "link.json").symlink_to(twin)
    for name in (twin, tmp_path / "other" / ".." / "clip.mp4", tmp_path / "link.json"):
        assert caption(twin, *TALKING, "--output", name).status == 2
    (tmp_path / "link.json").unlink()
    (tmp_path / "other").rmdir()
    done = caption(twin, video, *TALKING, "--plot", tmp_path / "a.png")
    assert (done.status, "have the same file name" in done.err) == (2, True)
    assert twin.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_under_paper_it_is_run_and_told_as_the_paper_did(caption: Command, clips: Any, tmp_path: Path) -> None:
    done = caption(clips.video(0), "--profile", "paper", "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    assert entry["fps"] == 0.5
    assert [score["time"] for score in entry["scores"]] == [2.0 * k for k in range(len(entry["scores"]))]
    said = ("--profile", "paper", "--fps", "4", "--speak", "threshold:0.65")  # more often than nano was made for
    assert caption(clips.video(0), *said, "--output", tmp_path / "a.json").status == 0
    segments = report(tmp_path / "a.json")["videos"][0]["segments"]
    events = [event["text"] for event in clips.truth[0]["events"]]
    assert len(segments) >= 2
    assert segments[0]["start"] > 0  # the first caption has no start, and is dropped
    assert events[0] not in [segment["caption"] for segment in segments]
    assert all(a["end"] == b["start"] for a, b in pairwise(segments))


def test_nothing_that_steers_a_terminal_reaches_a_pipe(
    caption: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = caption(video, *TALKING)
    assert tables(done)["clip.mp4"]
    assert all(char.isprintable() or char == "\n" for char in done.out + done.err)


def test_a_terminal_has_colours(caption: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert caption(video, *TALKING).status == 0
    assert "\x1b[1m" in terminal.getvalue()
    assert "caption" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())


# at a server


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_test_server(load_model("random:tiny")) as server:
        yield server


COMMANDS = {
    "caption": ("caption", "--speak", "sum:1"),
    "caption, as the paper": ("caption", "--profile", "paper"),
    "ground": ("ground", "--query", "a dog", "--profile", "paper"),
    "ground, online": ("ground", "--query", "a dog", "--online"),
    "highlight": ("highlight",),
    "ask": ("ask", "--query", "What?@1.1", "--speak", "sum:1"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_server_finds_what_is_found_here(
    mmduet: Command, served: RunningServer, video: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    other = write_video(tmp_path / "other.mp4", 5)
    name, *more = command
    given = (name, other, video, *more, "--fps", "4", "--output")
    here = mmduet(*given, tmp_path / "here.json", *MODEL)
    where = ("--server", f"127.0.0.1:{served.port}", "--encoding", "raw")
    there = mmduet(*given, tmp_path / "there.json", *where)
    assert (here.status, here.err) == (there.status, there.err) == (0, "")
    assert there.out == here.out
    one, two = report(tmp_path / "here.json")["videos"], report(tmp_path / "there.json")["videos"]
    for a, b in zip(one, two, strict=True):
        assert [list(row) for row in b["scores"]] == [list(row) for row in a["scores"]]
        assert [row["relevance"] for row in b["scores"]] == pytest.approx(
            [row["relevance"] for row in a["scores"]], abs=1e-5
        )
        assert a.keys() == b.keys()
    assert any(rows for rows in tables(here).values()) or name == "ground"


def test_a_server_is_asked_for_several_at_once_and_failures_are_told(
    mmduet: Command, served: RunningServer, video: Path, tmp_path: Path
) -> None:
    where = ("--server", f"127.0.0.1:{served.port}", "--fps", "4")
    done = mmduet("highlight", tmp_path / "none.mp4", video, *where)
    assert done.status == 1
    assert "none.mp4: error[video_not_found]" in done.err
    assert list(tables(done)) == ["clip.mp4"]
