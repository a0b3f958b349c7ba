"""The cutter: a clip shows and plays exactly what the source does in its spans, from start to end."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import make, packets, picture

from mmduet.errors import MmduetError, OptionError, VideoNotFoundError, VideoWriteError
from mmduet.spans import Span
from mmduet.video import VideoFile
from mmduet.video.audio import AudioReader, describe_unreadable_audio, has_audio
from mmduet.video.cutter import ClipSpec, copy_clip, cut_clips
from mmduet.video.timeline import Timeline

GOOD = {"g": "10", "crf": "12", "sc_threshold": "0"}


def frame_starts(path: Path, height: int = 48, width: int = 64) -> list[tuple[float, int]]:
    """Return when each frame starts, and the number of the most similar ``video_files.picture``."""
    frames = [(frame.time, frame.image[:height, :width].astype(np.int16)) for frame in VideoFile(path)]
    return [
        (time, int(np.argmin([np.abs(image - one).mean() for one in reference_images(height, width)])))
        for time, image in frames
    ]


@cache
def reference_images(height: int, width: int) -> list[np.ndarray]:
    """Return the image of frame k at index k."""
    return [picture(k, height, width).astype(np.int16) for k in range(60)]


def numbers(path: Path, height: int = 48, width: int = 64) -> list[int]:
    """Return the number of the ``video_files.picture`` that each frame shows."""
    return [k for _, k in frame_starts(path, height, width)]


def frame_at(frames: list[tuple[float, int]], time: float) -> int:
    return [k for begins, k in frames if begins <= time + 1e-4][-1]


def times(path: Path) -> list[float]:
    return [time for time, _ in frame_starts(path)]


def length(path: Path) -> float:
    duration = VideoFile(path).info.duration
    assert duration is not None
    return duration


# Cutting by re-encoding


@pytest.mark.parametrize("options", [{}, {"bf": "3", "b-adapt": "0"}])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_in_and_out_points_are_exact_to_a_frame(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    source = make(tmp_path / name, 30, codec_options=GOOD | options)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((7 / 25, 19 / 25),))])
    assert frame_starts(tmp_path / "cut.mp4") == [(pytest.approx(k / 25, abs=1e-3), 7 + k) for k in range(12)]
    assert length(tmp_path / "cut.mp4") == pytest.approx(12 / 25, abs=1e-3)


def test_frames_of_a_clip_are_those_of_the_source(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 12, codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.12, 0.36),))], crf=1)
    wanted = [frame.image.astype(int) for frame in VideoFile(source)][3:9]
    for frame, image in zip(VideoFile(tmp_path / "cut.mp4"), wanted, strict=True):
        assert np.abs(frame.image - image).mean() < 5
        assert np.abs(frame.image - wanted[(frame.index + 1) % 6]).mean() > 20


def test_a_clip_that_starts_between_two_frames_shows_the_earlier_one_first(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 30, codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.13, 0.27),))])
    assert frame_starts(tmp_path / "cut.mp4") == [
        (pytest.approx(t, abs=1e-3), k) for t, k in [(0, 3), (0.03, 4), (0.07, 5), (0.11, 6)]
    ]
    assert length(tmp_path / "cut.mp4") == pytest.approx(0.14, abs=1e-3)


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    at = [0, 40, 80, 1500, 1540, 3000, 3010, 3500]
    source = make(tmp_path / "vfr.mkv", len(at), times_ms=at, codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((1.0, 3.25),))])
    assert frame_starts(tmp_path / "cut.mp4") == [
        (pytest.approx(t, abs=1e-3), k) for t, k in [(0, 2), (0.5, 3), (0.54, 4), (2.0, 5), (2.01, 6)]
    ]
    assert length(tmp_path / "cut.mp4") == pytest.approx(2.25, abs=2e-3)


@settings(max_examples=12)
@given(st.lists(st.integers(0, 1200), min_size=2, max_size=6, unique=True))
def test_a_reel_shows_the_same_frames_as_the_source_at_every_time(
    tmp_path_factory: pytest.TempPathFactory, edges: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("reel")
    source = make(folder / "a.mp4", 30, codec_options=GOOD)
    edges = sorted(edges)[: len(edges) // 2 * 2]
    spans = [(a / 1000, b / 1000) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 5]
    if not spans:
        return
    cut_clips(source, [ClipSpec(folder / "reel.mp4", tuple(spans))])
    before, after, done = frame_starts(source), frame_starts(folder / "reel.mp4"), 0.0
    for start, end in spans:
        for time in np.arange(start + 0.002, end - 0.003, 0.013):
            assert frame_at(after, done + time - start) == frame_at(before, time)
        done += end - start
    assert length(folder / "reel.mp4") == pytest.approx(done, abs=5e-3)


def test_several_clips_are_cut_in_one_pass(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 30, codec_options=GOOD)
    spans = ((0.2, 0.4), (0.8, 1.0))
    clips = [ClipSpec(tmp_path / f"{k}.mp4", (span,)) for k, span in enumerate(reversed(spans))]
    cut_clips(source, [*clips, ClipSpec(tmp_path / "reel.mp4", spans)])
    assert numbers(tmp_path / "0.mp4") == list(range(20, 25))
    assert numbers(tmp_path / "1.mp4") == list(range(5, 10))
    assert numbers(tmp_path / "reel.mp4") == [*range(5, 10), *range(20, 25)]
    assert times(tmp_path / "reel.mp4") == pytest.approx([k / 25 for k in range(10)], abs=1e-3)


def test_the_caller_sees_how_far_the_source_has_been_read_and_may_end_the_work(tmp_path: Path) -> None:
    source, times = make(tmp_path / "v.mp4", count=30), list[float]()

    def stop_later(time: float) -> None:
        times.append(time)
        if time > 0.5:
            raise OptionError("enough")

    clips = [ClipSpec(tmp_path / "done.mp4", ((0.0, 0.2),)), ClipSpec(tmp_path / "cut.mp4", ((0.4, 1.0),))]
    with pytest.raises(OptionError, match="enough"):
        cut_clips(source, clips, on_time=stop_later)
    assert times == pytest.approx([k / 25 for k in range(14)])
    assert {path.name for path in tmp_path.iterdir()} == {"v.mp4", "done.mp4"}


def test_a_span_past_the_end_is_cut_at_the_end(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 30, codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((1.0, 9.0),))])
    assert numbers(tmp_path / "cut.mp4") == [25, 26, 27, 28, 29]
    assert length(tmp_path / "cut.mp4") == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("name", ["late.mp4", "late.ts"])
def test_seconds_count_from_the_first_frame(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / name, 30, times_ms=[5000 + 40 * k for k in range(30)], codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.4, 0.6),))])
    assert numbers(tmp_path / "cut.mp4") == [10, 11, 12, 13, 14]
    (span,) = copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.5, 0.6),)))
    assert span[0] == pytest.approx(0.4, abs=1e-3)


def test_odd_sizes_and_rotation(tmp_path: Path) -> None:
    odd = make(tmp_path / "odd.mp4", 20, size=(47, 63), pix_fmt="yuv444p", codec_options=GOOD)
    cut_clips(odd, [ClipSpec(tmp_path / "cut.mp4", ((0.2, 0.4),))])
    frames = list(VideoFile(tmp_path / "cut.mp4"))
    assert frames[0].image.shape == (48, 64, 3)
    assert numbers(tmp_path / "cut.mp4", 47, 63) == [5, 6, 7, 8, 9]
    turned = make(tmp_path / "turned.mp4", 10, rotation=-90, codec_options=GOOD)
    cut_clips(turned, [ClipSpec(tmp_path / "upright.mp4", ((0.2, 0.4),))])
    file = VideoFile(tmp_path / "upright.mp4")
    assert (file.info.width, file.info.height) == (48, 64)
    image = next(iter(file)).image
    assert image[:10, -10:].mean() > 235  # the white corner, upright
    assert np.abs(image.astype(int) - [f.image for f in VideoFile(turned)][5]).mean() < 8


def test_the_pixel_aspect_ratio_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "dv.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for k in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k, 48, 64), "rgb24")))
        container.mux(stream.encode(None))
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.1, 0.3),))])
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


# Audio


def make_with_audio(
    path: Path, seconds: float = 2.0, rate: int = 44100, burst: float = 1.0, delay: float = 0.0
) -> Path:
    """Make a video at 25 fps with mono audio from ``delay`` on: silence, with a tone of 0.1 s that starts at ``burst``."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options=GOOD)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=rate)
        sound.codec_context.layout = "mono"
        clock = np.arange(round((seconds - delay) * rate)) / rate + delay
        tone = np.where((clock >= burst) & (clock < burst + 0.1), 0.5 * np.sin(2 * np.pi * 1000 * clock), 0)
        for k in range(round(seconds * 25)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(k, 48, 64), "rgb24")))
        for k in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, k : k + 1024].astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, k + round(delay * rate), Fraction(1, rate)
            container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return path


def find_tones(path: Path, seconds: float) -> list[tuple[float, float]]:
    """Return start and end of every tone, as ``AudioReader`` reads them from the first frame."""
    samples = AudioReader(path, Timeline(), 0.0, seconds).read_until(seconds)
    assert samples.shape == (2, round(seconds * 48000))
    envelope = np.abs(samples).max(0).reshape(-1, 48).max(1) > 0.1  # of milliseconds
    edges = np.flatnonzero(np.diff(np.concatenate([[False], envelope, [False]])))
    return [(a / 1000, b / 1000) for a, b in edges.reshape(-1, 2).tolist()]


def test_audio_of_joined_recordings_is_in_sync(tmp_path: Path) -> None:
    parts = [make_with_audio(tmp_path / f"{k}.ts", burst=burst) for k, burst in enumerate((1.0, 0.5))]
    joined = tmp_path / "all.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    cut_clips(joined, [ClipSpec(tmp_path / "cut.mp4", ((0.0, 4.0),))])
    copy_clip(joined, ClipSpec(tmp_path / "copy.mp4", ((0.0, 4.0),)))
    for name in ("cut.mp4", "copy.mp4"):
        assert find_tones(tmp_path / name, 3.9) == [
            (pytest.approx(begins, abs=0.06), pytest.approx(begins + 0.1, abs=0.06)) for begins in (1.0, 2.5)
        ]


def test_a_sound_track_without_decoder_is_left_out(tmp_path: Path) -> None:
    source = make_with_audio(tmp_path / "a.mkv")
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.2, 0.6),))])
    copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.2, 0.6),)))
    for name in ("cut.mp4", "copy.mp4"):
        assert numbers(tmp_path / name)[-1] == 14
        assert not has_audio(tmp_path / name)
    assert describe_unreadable_audio(source) == f"{source}: no decoder for sound track 1; clips have no sound"


def test_frames_of_another_size_are_scaled_to_the_clip(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{k}.ts", 20, size) for k, size in enumerate(((48, 64), (96, 128)))]
    source = tmp_path / "a.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.4, 1.2),))])
    frames = list(VideoFile(tmp_path / "cut.mp4"))
    assert len(frames) == 20
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    for frame in (frames[0], frames[-1]):  # the white corner of a ``picture``
        assert frame.image[2:10, 2:14].mean() > 235
        assert frame.image[2:10, 18:].mean() < 180


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_audio_is_included_and_in_sync(tmp_path: Path, name: str, delay: float) -> None:
    source = make_with_audio(tmp_path / name, delay=delay)
    spans = ((0.2, 0.6), (0.8, 1.6))
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", spans[1:]), ClipSpec(tmp_path / "reel.mp4", spans)])
    for path, at in ((tmp_path / "cut.mp4", 0.2), (tmp_path / "reel.mp4", 0.6)):
        ((begin, end),) = find_tones(path, length(path))
        assert begin == pytest.approx(at, abs=0.012)
        assert end == pytest.approx(at + 0.1, abs=0.012)
    assert numbers(tmp_path / "reel.mp4") == [*range(5, 15), *range(20, 40)]


def test_clips_of_a_silent_file_have_no_audio_stream(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 30, codec_options=GOOD)
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.2, 0.4),))])
    copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.2, 0.4),)))
    assert not has_audio(tmp_path / "cut.mp4")
    assert not has_audio(tmp_path / "copy.mp4")


def test_audio_that_ends_early_is_followed_by_silence(tmp_path: Path) -> None:
    source = make_with_audio(tmp_path / "a.mp4", seconds=1.0, burst=0.9)
    samples = AudioReader(source, Timeline(), 0.5, 2.0)
    assert np.abs(samples.read_until(1.0)).max() > 0.3
    assert np.abs(samples.read_until(1.5)).max() < 0.3
    assert samples.read_until(9.0).shape == (2, 24000)
    assert samples.read_until(9.0).shape == (2, 0)


# Copying


@pytest.mark.parametrize(
    "options", [{}, {"bf": "3", "b-adapt": "0"}, {"bf": "2", "x264-params": "open-gop=1:keyint=10"}]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_copy_starts_at_the_key_frame_before(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    source = make(tmp_path / name, 60, codec_options=GOOD | options)
    ((start, end),) = copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((27 / 25, 33 / 25),)))
    first = round(start * 25)
    assert 17 < first <= 27  # a key frame every ten, or nearly so where groups are open
    found = frame_starts(tmp_path / "copy.mp4")
    assert [k for _, k in found if k < 33] == list(range(first, 33))
    assert all(k <= 32 + 4 for _, k in found)  # what is decoded before is shown after
    assert end == pytest.approx((found[-1][1] + 1) / 25, abs=2e-3)
    assert [time for time, _ in found] == pytest.approx([(k - first) / 25 for _, k in found], abs=2e-3)


def test_a_copy_contains_the_packets_of_the_source(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 40, codec_options=GOOD | {"bf": "0"})
    copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.4, 0.8),)))
    assert [size for _, size, _ in packets(tmp_path / "copy.mp4")] == [size for _, size, _ in packets(source)][10:20]


def test_the_spans_of_a_copied_reel_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    source = make_with_audio(tmp_path / "a.mp4")
    spans = ((0.4, 0.6), (0.8, 1.2))
    copied = copy_clip(source, ClipSpec(tmp_path / "reel.mp4", spans))
    assert [start for start, _ in copied] == pytest.approx([0.4, 0.8], abs=1e-3)
    found = frame_starts(tmp_path / "reel.mp4")
    assert [k for _, k in found if k < 15][:5] == [10, 11, 12, 13, 14]
    assert [k for _, k in found if k >= 20][:10] == list(range(20, 30))
    assert all(0.03 < b - a < 0.13 for a, b in pairwise(times(tmp_path / "reel.mp4")))  # no frame waits for its span
    ((begin, _),) = find_tones(tmp_path / "reel.mp4", length(tmp_path / "reel.mp4"))
    assert begin == pytest.approx(next(t for t, k in found if k == 25), abs=0.03)


def test_a_span_with_reordered_frames_follows_one_without(tmp_path: Path) -> None:
    """The first span is a key frame alone; frames of the second are decoded before they are shown."""
    source = make(tmp_path / "a.mp4", 60, codec_options=GOOD | {"bf": "3", "b-adapt": "0"})
    copy_clip(source, ClipSpec(tmp_path / "reel.mp4", ((10 / 25, 11 / 25), (30 / 25, 38 / 25))))
    found = frame_starts(tmp_path / "reel.mp4")
    assert [k for _, k in found[:9]] == [10, *range(30, 38)]
    assert [b - a for (a, _), (b, _) in pairwise(found[1:9])] == pytest.approx([0.04] * 7)


def test_frames_shown_before_the_key_frame_are_not_copied(tmp_path: Path) -> None:
    """In an open group, frames after a key frame in the file may be shown before it and depend on packets before it."""
    options = {"bf": "3", "b-adapt": "0", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
    source = make(tmp_path / "a.mkv", 60, codec_options={"crf": "12"} | options)
    with av.open(str(source)) as container:
        order = [(packet.pts or 0, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    keys = [k for k, (_, key) in enumerate(order) if key]
    place = next(k for k in keys if 0 < k < len(order) - 12 and order[k + 1][0] < order[k][0])
    at = order[place][0] / 1000
    copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((at + 0.01, at + 0.3),)))
    with av.open(str(tmp_path / "copy.mp4")) as container:
        copied = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert min(copied) == copied[0]
    assert numbers(tmp_path / "copy.mp4")[0] == round(at * 25)


def test_a_copied_reel_shows_no_frame_twice(tmp_path: Path) -> None:
    """Key frames are at 0, 10, 20, ..., so there is none between the first two spans."""
    source = make(tmp_path / "a.mp4", 60, codec_options=GOOD | {"bf": "0"})
    spans = ((12 / 25, 14 / 25), (17 / 25, 18 / 25), (34 / 25, 38 / 25))
    copied = copy_clip(source, ClipSpec(tmp_path / "reel.mp4", spans))
    assert copied == [pytest.approx((10 / 25, 18 / 25)), pytest.approx((30 / 25, 38 / 25))]
    assert numbers(tmp_path / "reel.mp4") == [*range(10, 18), *range(30, 38)]


def test_a_copy_keeps_the_rotation(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", 20, rotation=-90, codec_options=GOOD)
    copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.4, 0.6),)))
    file = VideoFile(tmp_path / "copy.mp4")
    assert (file.info.width, file.info.height) == (48, 64)
    assert next(iter(file)).image[:10, -10:].mean() > 235


def test_a_codec_that_mp4_does_not_support_is_rejected_when_copied_and_encoded_when_cut(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mov", 20, codec="qtrle", pix_fmt="rgb24", codec_options={})
    with pytest.raises(VideoWriteError, match="re-encoding"):
        copy_clip(source, ClipSpec(tmp_path / "copy.mp4", ((0.2, 0.4),)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mov"]
    cut_clips(source, [ClipSpec(tmp_path / "cut.mp4", ((0.2, 0.4),))])
    assert numbers(tmp_path / "cut.mp4") == [5, 6, 7, 8, 9]


# Errors leave no partial file


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ((), "none"),
        (((1.0, 1.0),), "1.0 to 1.0 s"),
        (((2.0, 1.0),), "2.0 to 1.0 s"),
        (((-1.0, 1.0),), "-1.0 to 1.0 s"),
        (((0.0, 2.0), (1.0, 3.0)), "0.0 to 2.0 s, 1.0 to 3.0 s"),
        (((0.0, float("nan")),), "0.0 to nan s"),
    ],
)
def test_invalid_spans_are_rejected(tmp_path: Path, spans: tuple[Span, ...], found: str) -> None:
    message = rf"a\.mp4: expected ascending spans of at least 0 s that do not overlap, got {found}$"
    with pytest.raises(OptionError, match=message):
        ClipSpec(tmp_path / "a.mp4", spans)


def failure(source: Path, clips: list[ClipSpec]) -> MmduetError:
    with pytest.raises(MmduetError) as caught:
        cut_clips(source, clips)
    return caught.value


def test_clips_of_a_truncated_source_end_with_it(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", 60, codec_options=GOOD)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 2 // 3])
    left = len(list(VideoFile(source)))
    assert 30 < left < 45
    cut_clips(
        source, [ClipSpec(tmp_path / f"{k}.mp4", spans) for k, spans in enumerate((((0.0, 0.4),), ((0.6, 2.3),)))]
    )
    assert numbers(tmp_path / "0.mp4") == list(range(10))
    assert numbers(tmp_path / "1.mp4") == list(range(15, left))
    late = ClipSpec(tmp_path / "late.mp4", ((0.0, 0.4), (2.0, 2.3)))
    assert "has ended before 2.00 s" in str(failure(source, [late]))
    assert not late.path.exists()


@pytest.mark.parametrize("spans", [((5.0, 6.0),), ((0.0, 0.4), (5.0, 6.0))])
def test_a_span_after_the_end_is_rejected_and_leaves_no_file(tmp_path: Path, spans: tuple[Span, ...]) -> None:
    source = make(tmp_path / "a.mp4", 20)
    error = failure(source, [ClipSpec(tmp_path / "cut.mp4", spans)])
    assert str(error).endswith("a.mp4 has ended before 5.00 s; cut an earlier span")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_missing_source_and_a_missing_folder_are_rejected(tmp_path: Path) -> None:
    clip = ClipSpec(tmp_path / "nowhere" / "cut.mp4", ((0.0, 0.4),))
    assert isinstance(failure(tmp_path / "none.mp4", [clip]), VideoNotFoundError)
    source = make(tmp_path / "a.mp4", 20)
    assert isinstance(failure(source, [clip]), VideoWriteError)
    with pytest.raises(MmduetError):
        copy_clip(source, clip)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
