"""Recordings whose timestamps restart, jump or wrap around: times continue, and durations are those of the frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from video_files import greys, make, picture

from mmduet.spans import Span
from mmduet.video import VideoFile, open_frames
from mmduet.video.cutter import ClipSpec, copy_clip, cut_clips
from mmduet.video.timeline import PacketTimeline


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def times_of(path: Path) -> list[float]:
    return [frame.time for frame in VideoFile(path).decode()]


def every_40_ms(count: int) -> object:
    return pytest.approx([k / 25 for k in range(count)], abs=1e-3)


def write_ts(path: Path, starts: list[tuple[float, int]]) -> Path:
    """Write sections of (start in seconds, number of frames) with the timestamps as given, at 25 fps."""
    with av.open(str(path), "w", format="mpegts", options={"mpegts_copyts": "1", "muxdelay": "0"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        number = 0
        for start, count in starts:
            for k in range(count):
                frame = av.VideoFrame.from_ndarray(picture(number, 48, 64), "rgb24")
                frame.pts, frame.time_base = round(start * 90000) + 3600 * k, Fraction(1, 90000)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("reorder", ["0", "2"])
@pytest.mark.parametrize("lengths", [(30, 30), (10, 40), (40, 5, 15)])
def test_joined_recordings_continue(tmp_path: Path, reorder: str, lengths: tuple[int, ...]) -> None:
    parts = [
        make(tmp_path / f"{k}.ts", count, codec_options={"g": "10", "bf": reorder}) for k, count in enumerate(lengths)
    ]
    path = join(tmp_path / "all.ts", *parts)
    file = VideoFile(path, strict=True)
    assert [frame.time for frame in file.decode()] == every_40_ms(sum(lengths))
    assert file.info.duration == pytest.approx(sum(lengths) / 25, abs=0.05)
    assert greys(path) == pytest.approx([k for count in lengths for k in range(count)], abs=1)
    reader = open_frames(path, 5, "paper")
    assert len(list(reader)) == pytest.approx(sum(lengths) / 5, abs=1)


@pytest.mark.parametrize("gap", [11.0, 95_000.0])
def test_a_jump_forwards_is_a_discontinuity_in_mpeg_ts(tmp_path: Path, gap: float) -> None:
    path = join(tmp_path / "all.ts", write_ts(tmp_path / "a.ts", [(0, 20)]), write_ts(tmp_path / "b.ts", [(gap, 20)]))
    assert times_of(path) == every_40_ms(40)
    assert VideoFile(path).info.duration == pytest.approx(1.6, abs=0.05)


def test_a_short_gap_is_time(tmp_path: Path) -> None:
    path = join(tmp_path / "all.ts", write_ts(tmp_path / "a.ts", [(0, 20)]), write_ts(tmp_path / "b.ts", [(5.0, 20)]))
    assert times_of(path)[19:21] == pytest.approx([19 / 25, 5.0], abs=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_long_gap_is_time_in_other_containers(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, 4, times_ms=[0, 40, 60_000, 60_040])
    assert times_of(path) == pytest.approx([0, 0.04, 60, 60.04], abs=1e-3)


def test_timestamps_that_wrap_around_continue(tmp_path: Path) -> None:
    path = write_ts(tmp_path / "a.ts", [((1 << 33) / 90000 - 0.4, 30)])
    assert times_of(path) == every_40_ms(30)
    assert VideoFile(path).info.duration == pytest.approx(1.2, abs=0.05)


def test_joined_recordings_are_cut_at_the_right_place(tmp_path: Path) -> None:
    path = join(
        tmp_path / "all.ts",
        *(make(tmp_path / f"{k}.ts", 30, codec_options={"g": "10", "bf": "0", "crf": "12"}) for k in range(2)),
    )
    cut_clips(
        path, [ClipSpec(tmp_path / "cut.mp4", (Span(1.0, 1.6),)), ClipSpec(tmp_path / "b.mp4", (Span(1.6, 2.0),))]
    )
    assert greys(tmp_path / "cut.mp4") == pytest.approx([*range(25, 30), *range(10)], abs=1)
    assert greys(tmp_path / "b.mp4") == pytest.approx(list(range(10, 20)), abs=1)
    (copied,) = copy_clip(path, ClipSpec(tmp_path / "copy.mp4", (Span(1.6, 2.0),)))
    assert copied == pytest.approx(Span(1.6, 2.0), abs=0.05)
    assert greys(tmp_path / "copy.mp4") == pytest.approx(list(range(10, 20)), abs=1)


def packet(stamp: float) -> av.Packet:
    made = av.Packet(b"x")
    made.time_base = Fraction(1, 1000)
    made.pts = made.dts = round(stamp * 1000)
    made.duration = 40
    return made


def test_a_live_stream_keeps_a_pause_in_which_time_has_passed() -> None:
    clock = 0.0
    timeline = PacketTimeline(Fraction(1, 1000), Fraction(25), live=True, clock=lambda: clock)
    shown = []
    for stamp, elapsed in ((0.0, 0.0), (0.04, 0.04), (30.0, 29.9), (80.0, 0.1)):
        clock += elapsed
        one = packet(stamp)
        timeline.correct(one)
        shown.append((one.pts or 0) / 1000)
    assert shown == pytest.approx([0.0, 0.04, 30.0, 30.04])
