"""Parts of ``mmduet run``: turns on the command line, subtitles, transcripts, output files and the layout of the plot."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmduet.annotations.subtitles import Cue, srt, webvtt, write_subtitles
from mmduet.cli._output_files import check_output_file
from mmduet.cli._transcript import PartialReply, Transcript
from mmduet.cli._turns import parse_timed_text
from mmduet.errors import OptionError
from mmduet.events import Frame, Query, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores
from mmduet.files import atomic_write, write_text
from mmduet.options import SpeakOptions
from mmduet.text import to_printable
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.run_plot import RunPlot, TimedText, list_turns, save_run_plot
from mmduet.viz.sheet import MAX_ENTRIES, format_time, wrap_text
from mmduet.viz.subtitle_timing import enforce_min_cue, reply_cues
from mmduet.viz.turn_flags import spread_apart
from mmduet.viz.video_plot import film_layout


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("What is this?", ("What is this?", 0.0)),
        ("What is this?@12.5", ("What is this?", 12.5)),
        ("What is this? @12", ("What is this?", 12.0)),
        ("Ask me@home", ("Ask me@home", 0.0)),
        ("a@b@3", ("a@b", 3.0)),
        ("4@4@", ("4@4@", 0.0)),
        ("Who?@.5", ("Who?", 0.5)),
        ("Who?@1e3", ("Who?@1e3", 0.0)),
        ("Who?@nan", ("Who?@nan", 0.0)),
        ("two\nlines@2", ("two\nlines", 2.0)),
    ],
)
def test_turn_is_parsed_into_text_and_time(text: str, parsed: tuple[str, float]) -> None:
    assert parse_timed_text("--query", text) == parsed


def test_turn_that_is_not_utf8_is_rejected() -> None:
    with pytest.raises(OptionError, match="UTF-8"):
        parse_timed_text("--query", b"what\xff?".decode("utf-8", "surrogateescape"))


# subtitles


def test_cues_end_at_the_next_reply_or_after_four_seconds() -> None:
    replies = [(0.5, "One."), (2.0, "Two."), (3700.25, "Three …")]
    assert webvtt(reply_cues(replies)) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nOne.\n\n00:00:02.000 --> 00:00:06.000\nTwo.\n\n"
        "01:01:40.250 --> 01:01:44.250\nThree …\n"
    )


def test_cues_at_the_same_time_are_merged_and_markup_is_escaped() -> None:
    replies = [(1.0, "a <b> --> c & d  E"), (1.0, "Second.")]
    assert webvtt(reply_cues(replies)) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:05.000\na &lt;b&gt; --&gt; c &amp; d  E\nSecond.\n"
    )


def test_subtitles_without_replies_are_a_valid_file() -> None:
    assert webvtt(reply_cues([])) == "WEBVTT\n"
    assert srt(reply_cues([])) == ""


def test_cues_do_not_overlap_and_last_long_enough_to_read() -> None:
    cues = [
        Cue.from_text(3.0, 3.0, "c"),
        Cue.from_text(1.0, 9.0, "a"),
        Cue.from_text(2.0, 2.2, "b"),
        Cue.from_text(3.0, 4.5, "d"),
    ]
    assert list(enforce_min_cue(cues)) == [
        Cue(1.0, 2.0, ("a",)),
        Cue(2.0, 3.0, ("b",)),
        Cue(3.0, 4.5, ("c", "d")),
    ]
    assert list(enforce_min_cue([Cue.from_text(7.0, 7.0, "at the very end")], 4.0)) == [
        Cue(7.0, 11.0, ("at the very end",))
    ]
    assert list(enforce_min_cue([])) == []


def test_joiners_are_kept_and_direction_overrides_are_replaced() -> None:
    assert Cue.from_text(0, 1, "می\u200cرود 👩\u200d🚒").lines == ("می\u200cرود 👩\u200d🚒",)
    assert Cue.from_text(0, 1, "a\u202eb").lines == ("a\ufffdb",)  # right-to-left override


def test_subrip_cues_are_numbered_and_have_no_markup() -> None:
    cues = [Cue.from_text(3700.25, 3701.0, "Later."), Cue.from_text(0.5, 2.0, "a <b>{\\an8} --> c & d\x1b[31m")]
    assert srt(cues) == (
        "1\n00:00:00,500 --> 00:00:02,000\na (b)(\\an8) --) c & d\N{REPLACEMENT CHARACTER}[31m\n\n"
        "2\n01:01:40,250 --> 01:01:41,000\nLater.\n"
    )


def test_file_suffix_selects_the_subtitle_format(tmp_path: Path) -> None:
    for name, head in (("a.srt", "1\n"), ("a.SRT", "1\n"), ("a.vtt", "WEBVTT\n")):
        write_subtitles(tmp_path / name, [Cue.from_text(0.0, 1.0, "One.")])
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(head)


# transcript and output files


def test_unfinished_reply_is_kept_up_to_its_last_delta() -> None:
    transcript = Transcript()
    for output in (ReplyStarted(0, 3, 1.5), ReplyDelta(0, "A red "), ReplyDelta(0, "cir")):
        transcript.add(output)
    assert transcript.replies == [PartialReply(1.5, "A red cir", None)]
    assert transcript.replies[0].display_text == "A red cir …"


@given(st.text())
def test_printable_text_is_one_line_of_the_same_length(text: str) -> None:
    printable = to_printable(text)
    assert len(printable) == len(text)
    assert printable.isprintable()


def test_atomic_write_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
    with atomic_write(path) as part:
        part.write_text("after")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["after"]
    with pytest.raises(OptionError, match="nowhere"), atomic_write(tmp_path / "nowhere" / "a.txt") as part:
        part.write_text("lost")


# plot


@given(st.lists(st.floats(0, 10), max_size=38))
def test_flags_do_not_overlap_and_stay_on_the_sheet(times: list[float]) -> None:
    desired = sorted(times)
    positions = spread_apart(desired, 0.26, 10.0)
    assert len(positions) == len(desired)
    assert all(-1e-9 <= position <= 10 + 1e-9 for position in positions)
    assert all(b - a >= 0.26 - 1e-9 for a, b in pairwise(positions))


def test_flags_move_only_if_they_would_overlap() -> None:
    assert spread_apart([0.0, 1.0, 9.9], 0.26, 10.0) == pytest.approx([0.0, 1.0, 9.9])
    assert spread_apart([5.0, 5.0], 0.2, 10.0) == pytest.approx([4.9, 5.1])


@given(st.text(alphabet="ab \n", max_size=80), st.integers(1, 20))
def test_wrapped_lines_fit_and_lose_no_text(text: str, max_width: int) -> None:
    width: Callable[[str], float] = len
    lines = list(wrap_text(text, max_width, width))
    assert all(0 < len(line) <= max_width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_film_strip_of_a_long_video_keeps_few_small_thumbnails() -> None:
    strip = FilmStrip()
    for index in range(1000):
        strip.add(Frame(index, index / 4, np.full((90, 1600, 3), index % 256, np.uint8)))
    assert 32 <= len(strip.thumbnails) <= 64
    assert max(image.nbytes for _, image in strip.thumbnails) <= 256 * 256 * 3
    times = [time for time, _ in strip.thumbnails]
    assert np.ptp(np.diff(times)) == 0
    assert times[-1] > 230


@pytest.mark.parametrize("aspect", [0.05, 0.56, 1.0, 1.78, 2.4, 40.0])
def test_film_layout_is_bounded_for_any_aspect_ratio(aspect: float) -> None:
    count, height = film_layout(aspect, 64)
    assert 6 <= count <= 14
    assert 0.5 <= height <= 1.5
    assert film_layout(aspect, 1)[0] == 4


def test_time_format_depends_on_the_duration() -> None:
    assert [format_time(12.345, 60), format_time(75, 600), format_time(3725, 4000), format_time(2, 60, 0)] == [
        "12.35 s",
        "1:15",
        "1:02:05",
        "2 s",
    ]


def turns_of(transcript: Transcript) -> tuple[list[TimedText], list[TimedText]]:
    queries = [TimedText(read.time, read.query.text) for read in transcript.queries]
    return queries, [TimedText(reply.time, reply.display_text) for reply in transcript.replies]


def save_plot(path: Path, title: str, transcript: Transcript, strip: FilmStrip, speak: SpeakOptions) -> None:
    plot = RunPlot(title, "watched by nano", transcript.scores, *turns_of(transcript), speak, strip)
    save_run_plot(path, plot)


def make_run(replies: int, seconds: float = 20.0) -> tuple[Transcript, FilmStrip]:
    transcript, strip = Transcript(), FilmStrip()
    transcript.add(QueryRead(Query("What costs $5 or $6? <b>", 99.0), 99.0))  # read after the last frame
    for index in range(int(seconds) * 4):
        strip.add(Frame(index, index / 4, np.full((48, 64, 3), index % 256, np.uint8)))
        transcript.add(Scores(index, index / 4, 0.5, 0.25))
    for number in range(replies):
        time = seconds * number / replies
        transcript.add(ReplyStarted(number, 0, time))
        transcript.add(Reply(number, 0, time, "$x_{ " + "a long story " * 12 + "\u4e16\u754c", 9, "stop"))
    return transcript, strip


def test_replies_beyond_the_limit_are_counted() -> None:
    entries = list_turns(*turns_of(make_run(MAX_ENTRIES + 30)[0]))
    assert sum(entry.label.isdigit() for entry in entries) == MAX_ENTRIES
    assert entries[-1].text == "and 30 more replies"


@pytest.mark.parametrize("replies", [0, 1, 130])
def test_plot_height_grows_with_the_number_of_replies(tmp_path: Path, replies: int) -> None:
    save_plot(tmp_path / "a.png", "$clip$.mp4", *make_run(replies), SpeakOptions())
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1800
        assert 600 + 10 * min(replies, MAX_ENTRIES) < image.height < 1100 + 100 * min(replies, MAX_ENTRIES)


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_plot_is_saved_as_vector_graphics(tmp_path: Path, suffix: str) -> None:
    save_plot(tmp_path / f"a{suffix}", "clip.mp4", *make_run(2), SpeakOptions("sum", 2.0))
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000


def test_single_frame_is_plotted(tmp_path: Path) -> None:
    transcript, strip = Transcript(), FilmStrip()
    strip.add(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8)))
    transcript.add(Scores(0, 0.0, 0.5, 0.25))
    save_plot(tmp_path / "a.png", "clip.mp4", transcript, strip, SpeakOptions("never", 0.0))
    assert (tmp_path / "a.png").exists()


def test_write_text_writes_into_pipes_and_through_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    received: list[str] = []
    reader = Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    check_output_file("--output", tmp_path / "pipe")
    write_text(tmp_path / "pipe", "words")
    reader.join(10)
    assert received == ["words"]
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target" / "real.json")
    write_text(tmp_path / "link", "more")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "real.json").read_text() == "more"
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["real.json"]
