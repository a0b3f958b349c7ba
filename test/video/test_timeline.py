"""Recordings whose timestamps restart, jump or wrap around: times continue, and durations are those of the frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from video_files import greys, make, picture

from mmduet.pipelines.task_run import open_limited
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


def write_jumps(path: Path, starts: list[tuple[float, int]], reorder: str, fps: int = 25) -> Path:
    """Write sections with one encoder, which does not know of the jumps: decode times jump a few packets later."""
    with av.open(str(path), "w", format="mpegts", options={"mpegts_copyts": "1"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"g": "12", "bf": reorder})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        for start, count in starts:
            for k in range(count):
                frame = av.VideoFrame.from_ndarray(picture(k, 48, 64), "rgb24")
                frame.pts, frame.time_base = round(start * 90000) + 90000 // fps * k, Fraction(1, 90000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


WRAPAROUND = (1 << 33) / 90000


@pytest.mark.parametrize("reorder", ["0", "2", "5"])
@pytest.mark.parametrize(
    "starts",
    [
        [(0, 36), (600, 20)], [(0, 37), (600, 20)], [(0, 38), (600, 20)], [(0, 25), (14, 25)],
        [(0, 25), (600, 17), (5000, 19), (9000, 13)], [(0, 25), (600, 2), (5000, 20)],
        [(WRAPAROUND - 0.5, 25), (WRAPAROUND + 700, 25)],
    ],
)  # fmt: skip
def test_a_jump_within_reordered_frames_is_a_discontinuity(
    tmp_path: Path, starts: list[tuple[float, int]], reorder: str
) -> None:
    path, count = write_jumps(tmp_path / "a.ts", starts, reorder), sum(count for _, count in starts)
    file = VideoFile(path, strict=True)
    assert [frame.time for frame in file.decode()] == every_40_ms(count)
    assert file.info.duration == pytest.approx(count / 25, abs=0.05)


@pytest.mark.parametrize("reorder", ["0", "2"])
def test_joined_recordings_of_other_rates_continue(tmp_path: Path, reorder: str) -> None:
    slow = write_jumps(tmp_path / "slow.ts", [(300, 21)], reorder, fps=10)
    fast = write_jumps(tmp_path / "fast.ts", [(0, 40)], "2" if reorder == "0" else "0")
    wrapping = write_jumps(tmp_path / "wrap.ts", [(WRAPAROUND - 0.5, 25)], reorder)
    lengths = {slow: (21, 10), fast: (40, 25), wrapping: (25, 25)}
    for parts in ([slow, fast], [fast, slow], [slow, fast, slow, fast], [wrapping, slow, wrapping, fast], [fast] * 5):
        expected, time = [], 0.0
        for part in parts:
            count, rate = lengths[part]
            expected += [time + k / rate for k in range(count)]
            time += count / rate
        file = VideoFile(join(tmp_path / "all.ts", *parts), strict=True)
        assert [frame.time for frame in file.decode()] == pytest.approx(expected, abs=2e-3)
        assert file.info.duration == pytest.approx(time, abs=0.11)


def test_very_short_recordings_are_joined_without_loss(tmp_path: Path) -> None:
    part = write_jumps(tmp_path / "a.ts", [(0, 4)], "2")
    file = VideoFile(join(tmp_path / "all.ts", *[part] * 6), strict=True)
    assert [frame.time for frame in file.decode()] == every_40_ms(24)


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


def misdeclared(path: Path) -> Path:
    """Write an MP4 file whose boxes declare half a second for 4 s of frames."""
    make(path, 100, codec_options={"g": "10", "bf": "0"})
    data = bytearray(path.read_bytes())
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = data.index(name) + offset
        data[place : place + 4] = (500).to_bytes(4)
    path.write_bytes(data)
    return path


def joined_program_stream(path: Path) -> Path:
    parts = [make(path.with_name(f"{k}.mpg"), 50, codec="mpeg2video") for k in range(2)]
    return join(path, *parts)


def counted_ivf(path: Path) -> Path:
    """Write an IVF file, whose header counts frames, in units of milliseconds."""
    return make(path, 100, codec="libvpx", times_ms=[40 * k for k in range(100)])


@pytest.mark.parametrize(
    ("name", "write"), [("a.mp4", misdeclared), ("a.mpg", joined_program_stream), ("a.ivf", counted_ivf)]
)
def test_the_paper_profile_reads_a_file_to_its_end_if_it_declares_too_little(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    reader = open_limited(write(tmp_path / name), 5, "paper", None)
    assert len(list(reader)) == pytest.approx(20, abs=1)
    assert reader.duration == pytest.approx(4.0, abs=0.1)


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
