"""``mmduet caption``, and what all task commands share: output files, several videos, failures, a server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import av
import pytest
from command_line import MODEL, Command, CommandResult, Terminal, check_plot, check_subtitles, in_process, write_video
from live_server import RunningServer, run_test_server
from task_commands import report, tables

from mmduet.model import load_model

TALKING = (*MODEL, "--fps", "4", "--speak", "sum:1")


@pytest.fixture
def caption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "caption")


def test_captions_match_the_annotated_events(caption: Command, clips: Any, tmp_path: Path) -> None:
    files = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.vtt")
    done = caption(*(clips.video(k) for k in range(3)), *files)
    assert (done.status, done.err) == (0, "")
    rows_by_video = tables(done)
    assert list(rows_by_video) == [clip["video"] for clip in clips.truth]
    captions, expected = [], []
    for clip, video in zip(clips.truth, report(tmp_path / "a.json")["videos"], strict=True):
        rows = rows_by_video[clip["video"]]
        segments = [(s["start"], s["end"], s["caption"]) for s in video["segments"]]
        assert rows == [[f"{start:.2f}", f"{end:.2f}", text] for start, end, text in segments]
        assert video["duration"] == pytest.approx(clip["duration"], abs=0.1)
        captions += [text for _, _, text in segments]
        expected += [event["text"] for event in clip["events"]]
        stem = Path(clip["video"]).stem
        check_plot(tmp_path / f"a-{stem}.png")
        assert check_subtitles(tmp_path / f"a-{stem}.vtt") == len(segments)
    assert len(set(captions) & set(expected)) >= 0.8 * len(expected)
    assert len(captions) <= len(expected) + 2
    assert len(list(tmp_path.iterdir())) == 7


def test_output_names_are_used_unchanged_for_a_single_video(caption: Command, clips: Any, tmp_path: Path) -> None:
    done = caption(clips.video(0), "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.srt", "--quiet")
    assert done == CommandResult(0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.srt"]
    cues = (tmp_path / "a.srt").read_text().rstrip("\n").split("\n\n")
    assert [cue.splitlines()[0] for cue in cues] == [str(k) for k in range(1, len(cues) + 1)]
    assert cues[0].splitlines()[2] == clips.truth[0]["events"][0]["text"]


@pytest.mark.parametrize("stage", ["open", "streams", "demux", "decode"])
def test_an_exception_of_a_library_ends_only_its_video(
    caption: Command, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """PyAV raises for one of three videos. Damage that every packet has leaves nothing to decode."""
    faulty = write_video(tmp_path / "faulty.mp4", 2)
    original = av.open

    def open_faulty(file: Any, *arguments: Any, **options: Any) -> Any:
        if "faulty" not in str(getattr(file, "name", file)):
            return original(file, *arguments, **options)
        if stage == "open":
            raise RuntimeError("a fault inside the library")
        return FaultyContainer(original(file, *arguments, **options), stage)

    monkeypatch.setattr(av, "open", open_faulty)
    done = caption(video, faulty, write_video(tmp_path / "last.mp4", 2), *TALKING)
    assert done.status == 1
    assert list(tables(done)) == ["clip.mp4", "last.mp4"]
    (line,) = done.err.splitlines()
    assert line.startswith(f"{faulty}: error[corrupt_video]: {faulty} ")
    assert "a fault inside the library" in line


class FaultyContainer:
    """A container of PyAV that raises ``RuntimeError`` in one stage of reading."""

    def __init__(self, container: Any, stage: str) -> None:
        self._container, self._stage = container, stage

    def __getattr__(self, name: str) -> Any:
        if name == self._stage:
            raise RuntimeError("a fault inside the library")
        return getattr(self._container, name)

    def demux(self, *streams: Any) -> Iterator[Any]:
        for packet in self._container.demux(*streams):
            if self._stage == "demux":
                raise RuntimeError("a fault inside the library")
            yield FaultyPacket(packet) if self._stage == "decode" else packet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


class FaultyPacket:
    """A packet that cannot be decoded."""

    def __init__(self, packet: Any) -> None:
        self._packet = packet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def decode(self) -> Any:
        raise RuntimeError("a fault inside the library")


def test_failing_videos_are_reported_and_the_others_are_processed(
    caption: Command, video: Path, tmp_path: Path
) -> None:
    whole = write_video(tmp_path / "whole.mp4", 6).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    paths = (tmp_path / "none.mp4", video, tmp_path / "cut.mp4", tmp_path / "whole.mp4")
    done = caption(*paths, *TALKING, "--strict-video", "--output", tmp_path / "a.json")
    assert done.status == 1
    assert list(tables(done)) == ["clip.mp4", "cut.mp4", "whole.mp4"]  # frames before the damage are processed
    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["error[video_not_found]", "error[corrupt_video]"]
    videos = report(tmp_path / "a.json")["videos"]
    assert [entry["video"] for entry in videos] == [str(path) for path in paths]
    assert ["error" in entry for entry in videos] == [True, False, True, False]
    assert videos[0]["error"]["code"] == "video_not_found"
    partial, complete = ([score["time"] for score in entry["scores"]] for entry in videos[2:])
    assert 0 < len(partial) < len(complete)
    assert partial == complete[: len(partial)]


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_concurrency_does_not_change_the_output(caption: Command, clips: Any, tmp_path: Path, concurrency: str) -> None:
    paths = [clips.video(k) for k in range(3)]
    separate_outputs = "".join(caption(path).out for path in paths)
    assert caption(*paths, "--at-once", concurrency).out == separate_outputs


def test_failure_of_a_single_video_is_the_exit_status_and_keeps_the_old_file(caption: Command, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("the last run's")
    done = caption(tmp_path / "none.mp4", *TALKING, "--output", tmp_path / "a.json")
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith("error[video_not_found]: ")
    assert (tmp_path / "a.json").read_text() == "the last run's"


@pytest.mark.parametrize(
    ("options", "status", "message"),
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
def test_invalid_options_and_unreachable_servers_are_reported(
    caption: Command,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple,
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = caption(video, *options)
    assert (done.status, done.out) == (status, "")
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_outputs_never_overwrite_a_video_or_each_other(caption: Command, video: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 1)
    before = clip.read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "link.json").symlink_to(clip)
    for output in (clip, tmp_path / "other" / ".." / "clip.mp4", tmp_path / "link.json"):
        assert caption(clip, *TALKING, "--output", output).status == 2
    (tmp_path / "link.json").unlink()
    (tmp_path / "other").rmdir()
    done = caption(clip, video, *TALKING, "--plot", tmp_path / "a.png")
    assert (done.status, "have the same file name" in done.err) == (2, True)
    assert clip.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_paper_profile_uses_the_papers_frame_rate_and_segments(caption: Command, clips: Any, tmp_path: Path) -> None:
    done = caption(clips.video(0), "--profile", "paper", "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    assert entry["fps"] == 0.5
    assert [score["time"] for score in entry["scores"]] == [2.0 * k for k in range(len(entry["scores"]))]
    options = ("--profile", "paper", "--fps", "4", "--speak", "threshold:0.65")  # enough replies for several segments
    assert caption(clips.video(0), *options, "--output", tmp_path / "a.json").status == 0
    segments = report(tmp_path / "a.json")["videos"][0]["segments"]
    events = [event["text"] for event in clips.truth[0]["events"]]
    assert len(segments) >= 2
    assert segments[0]["start"] > 0  # the first caption has no start, and is dropped
    assert events[0] not in [segment["caption"] for segment in segments]
    assert all(a["end"] == b["start"] for a, b in pairwise(segments))


def test_piped_output_has_no_terminal_control_characters(
    caption: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = caption(video, *TALKING)
    assert tables(done)["clip.mp4"]
    assert all(char.isprintable() or char == "\n" for char in done.out + done.err)


def test_terminal_output_has_colours(caption: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert caption(video, *TALKING).status == 0
    assert "\x1b[1m" in terminal.getvalue()
    assert "caption" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())


# with a server


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_test_server(load_model("random:tiny")) as server:
        yield server


COMMANDS = {
    "caption": ("caption", "--speak", "sum:1"),
    "caption, paper profile": ("caption", "--profile", "paper"),
    "ground": ("ground", "--query", "a dog", "--profile", "paper"),
    "ground, online": ("ground", "--query", "a dog", "--online"),
    "highlight": ("highlight",),
    "ask": ("ask", "--query", "What?@1.1", "--speak", "sum:1"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_server_gives_the_same_output_as_a_local_model(
    mmduet: Command, served: RunningServer, video: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    other = write_video(tmp_path / "other.mp4", 5)
    name, *more = command
    arguments = (name, other, video, *more, "--fps", "4", "--output")
    local = mmduet(*arguments, tmp_path / "local.json", *MODEL)
    server_options = ("--server", f"127.0.0.1:{served.port}", "--encoding", "raw")
    remote = mmduet(*arguments, tmp_path / "remote.json", *server_options)
    assert (local.status, local.err) == (remote.status, remote.err) == (0, "")
    assert remote.out == local.out
    local_videos, remote_videos = (report(tmp_path / f"{stem}.json")["videos"] for stem in ("local", "remote"))
    for a, b in zip(local_videos, remote_videos, strict=True):
        assert [list(row) for row in b["scores"]] == [list(row) for row in a["scores"]]
        assert [row["relevance"] for row in b["scores"]] == pytest.approx(
            [row["relevance"] for row in a["scores"]], abs=1e-5
        )
        assert a.keys() == b.keys()
    assert any(rows for rows in tables(local).values()) or name == "ground"


def test_failing_videos_are_reported_with_a_server(
    mmduet: Command, served: RunningServer, video: Path, tmp_path: Path
) -> None:
    server_options = ("--server", f"127.0.0.1:{served.port}", "--fps", "4")
    done = mmduet("highlight", tmp_path / "none.mp4", video, *server_options)
    assert done.status == 1
    assert "none.mp4: error[video_not_found]" in done.err
    assert list(tables(done)) == ["clip.mp4"]


def test_a_terminal_shows_the_seconds_done_and_left(
    caption: Command, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    (tmp_path / "broken.mp4").write_text("no video")
    caption(video, tmp_path / "broken.mp4", *MODEL, "--fps", "4")
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "loading the model" in shown
    assert re.search(r"processing 2 videos \S+ 3 of 3 s \d:\d\d:\d\d", shown)
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    caption(video, *MODEL, "--fps", "4", "--quiet")
    assert quiet.getvalue() == ""
