"""Reading of valid files in every container and pixel format that the tests can produce."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_files import count_until_error, greys, make, packets, picture

from mmduet.errors import OptionError, VideoError, VideoNotFoundError
from mmduet.video import VideoFile, open_frames
from mmduet.video.clock import PresentationClock
from mmduet.video.reader import FrameReader
from mmduet.video.sampling import Sampler
from mmduet.video.video_file import DecodedFrame

# --- good files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.flv"])
@pytest.mark.parametrize("reorder", ["0", "3"])
def test_frames_are_in_order_and_on_time(tmp_path: Path, name: str, reorder: str) -> None:
    path = make(tmp_path / name, codec_options={"g": "10", "bf": reorder, "b-adapt": "0", "crf": "20"})
    frames = list(VideoFile(path))
    assert [frame.time for frame in frames] == pytest.approx([k / 25 for k in range(30)], abs=1e-3)
    assert [frame.index for frame in frames] == [frame.decoded_index for frame in frames] == list(range(30))
    assert greys(path) == list(range(30))
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.mp4", "libx264", "gray"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.mkv", "ffv1", "gray16le"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mov", "qtrle", "argb"),
    ],
)
def test_pixel_formats_are_converted_to_rgb(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = make(tmp_path / name, 20, codec=codec, pix_fmt=pix_fmt, codec_options={"g": "10", "b": "2000000"})
    frames = list(VideoFile(path))
    assert len(frames) == 20
    assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)
    for k in (0, 7, 19):
        assert abs(frames[k].image[14:22, 20:60].mean() - 4 * k) < 6
        assert frames[k].image[2:8, 2:12].mean() > 240


def test_info_has_name_size_rate_and_duration(tmp_path: Path) -> None:
    info = VideoFile(make(tmp_path / "a.mp4")).info
    assert (info.name, info.width, info.height, info.fps) == ("a.mp4", 64, 48, 25)
    assert info.duration == pytest.approx(1.2)
    assert VideoFile(make(tmp_path / "a.mkv")).info.duration == pytest.approx(1.2)


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 40, 80, 1500, 1540, 3000, 3010]
    path = make(tmp_path / "vfr.mkv", len(times), times_ms=times)
    assert [frame.time for frame in VideoFile(path)] == pytest.approx([ms / 1000 for ms in times])


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_the_first_frame_is_at_zero_wherever_the_stream_starts(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, 10, times_ms=[5000 + 40 * k for k in range(10)])
    file = VideoFile(path)
    assert [frame.time for frame in file] == pytest.approx([k / 25 for k in range(10)], abs=1e-3)
    assert file.info.duration == pytest.approx(0.4, abs=0.01)


def test_a_raw_stream_without_timestamps_is_timed_by_its_rate(tmp_path: Path) -> None:
    times = [frame.time for frame in VideoFile(make(tmp_path / "a.h264"))]
    assert times == pytest.approx([k / 25 for k in range(30)])


def test_odd_sizes_are_read(tmp_path: Path) -> None:
    file = VideoFile(make(tmp_path / "odd.mp4", size=(47, 63), pix_fmt="yuv444p"))
    assert (file.info.width, file.info.height) == (63, 47)
    assert next(iter(file)).image.shape == (47, 63, 3)


@pytest.mark.parametrize(
    ("rotation", "hflip", "corner", "shape"),
    [
        (0, False, (0, 0), (48, 64)),
        (90, False, (1, 0), (64, 48)),  # counterclockwise: the top left goes to the bottom left
        (180, False, (1, 1), (48, 64)),
        (-90, False, (0, 1), (64, 48)),
        (0, True, (0, 1), (48, 64)),
    ],
)
def test_display_matrix_is_applied(
    tmp_path: Path, rotation: float, hflip: bool, corner: tuple[int, int], shape: tuple[int, int]
) -> None:
    file = VideoFile(make(tmp_path / "r.mp4", 3, rotation=rotation, hflip=hflip, codec_options={"crf": "10"}))
    assert (file.info.height, file.info.width) == shape
    image = next(iter(file)).image
    assert image.shape[:2] == shape
    down, right = corner
    rows = slice(-10, None) if down else slice(0, 10)
    columns = slice(-10, None) if right else slice(0, 10)
    assert image[rows, columns].mean() > 235
    others = [image[r, c].mean() for r in (slice(0, 10), slice(-10, None)) for c in (slice(0, 10), slice(-10, None))]
    assert sum(mean > 235 for mean in others) == 1


def test_frames_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    path = make(tmp_path / "v.mov", count=40, rotation=90)
    gc.collect()
    gc.disable()
    try:
        assert {frame.image.shape for frame in VideoFile(path)} == {(64, 48, 3)}
        assert gc.collect() < 40  # objects in reference cycles; a frame and its display matrix would be one
    finally:
        gc.enable()


def test_a_phone_portrait_matrix_rotates_clockwise(tmp_path: Path) -> None:
    """The display matrix of an upright phone, (0 1, -1 0), is patched into the track header."""
    path = make(tmp_path / "p.mp4", 3, codec_options={"crf": "10"})
    data, one = bytearray(path.read_bytes()), 1 << 16
    identity = b"".join(n.to_bytes(4, "big", signed=True) for n in (one, 0, 0, 0, one, 0, 0, 0, 1 << 30))
    turned = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30))
    place = data.index(identity, data.index(b"tkhd"))
    data[place : place + 36] = turned
    path.write_bytes(data)
    file = VideoFile(path)
    image = next(iter(file)).image
    assert (file.info.width, file.info.height) == (48, 64)
    assert image[:12, -10:].mean() > 235  # top left is now top right


def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "a.png", 1, codec="png", pix_fmt="rgb24", codec_options={}, options={"update": "1"})
    assert [frame.time for frame in VideoFile(path)] == [0.0]


def test_a_colon_in_the_file_name_does_not_name_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mp4", 5).rename(tmp_path / "concat:12:30.mp4")
    assert len(list(VideoFile(path))) == 5
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoFile("concat:12:30.mp4"))) == 5


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_other_layouts_of_mp4_are_read_to_the_end(tmp_path: Path, flags: str) -> None:
    assert count_until_error(make(tmp_path / "a.mp4", 60, options={"movflags": flags})) == (60, None)


def test_a_video_shorter_than_its_audio_is_read_to_the_end(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            sound = container.add_stream("aac", rate=16000, layout="mono")
            for k in range(25):
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture(k, 48, 64), "rgb24")))
            container.mux(video.encode(None))
            for k in range(80):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts = 16000, 1024 * k
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        assert count_until_error(path) == (25, None)


def test_a_file_trimmed_by_an_edit_list_is_read_to_the_end(tmp_path: Path) -> None:
    """A copy from the middle of a group of pictures starts at its key frame; the edit list hides the first frames."""
    path = make(tmp_path / "a.mp4", 50, codec_options={"g": "50", "bf": "2"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = round(0.4 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (packet.pts or 0) - shift, (packet.dts or 0) - shift, stream
                target.mux(packet)
    assert count_until_error(tmp_path / "cut.mp4") == (40, None)
    assert greys(tmp_path / "cut.mp4") == list(range(10, 50))


def test_a_recording_that_starts_between_key_frames_is_not_damaged(tmp_path: Path) -> None:
    path = make(tmp_path / "a.ts", 60, codec_options={"g": "20", "bf": "0"})
    place = [position for position, _, _ in packets(path)][10]
    path.write_bytes(path.read_bytes()[place // 188 * 188 :])
    count, error = count_until_error(path)
    assert error is None
    assert 38 <= count <= 50


# --- reading ----------------------------------------------------------------------------------------------------------


def open_handles(path: Path) -> int:
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("needs /proc")
    return sum(handle.is_symlink() and handle.readlink() == path for handle in list(handles.iterdir()))


def test_a_file_is_open_only_during_iteration(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4").resolve()
    file = VideoFile(path)
    assert open_handles(path) == 0
    frames = iter(file)
    next(frames)
    assert open_handles(path) == 1
    del frames
    gc.collect()
    assert open_handles(path) == 0
    list(file)
    assert open_handles(path) == 0
    sampled = open_frames(path, 5)
    next(sampled)
    assert open_handles(path) == 1
    del sampled
    gc.collect()
    assert open_handles(path) == 0


def test_close_ends_running_iterations(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4").resolve()
    with VideoFile(path) as file:
        frames = file.decode()
        next(frames)
    assert open_handles(path) == 0
    assert list(frames) == []
    file.close()
    with pytest.raises(VideoError, match="closed"):
        file.decode()


def test_two_iterations_are_independent(tmp_path: Path) -> None:
    file = VideoFile(make(tmp_path / "a.mp4"))
    pairs = list(zip(file.decode(), file.decode(), strict=True))
    assert len(pairs) == 30
    assert all(left.time == right.time for left, right in pairs)


class RecordingFile(VideoFile):
    """A file that records which frames were converted to RGB."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.converted: list[int] = []

    def decode(self, sampler: Sampler | None = None) -> Iterator[DecodedFrame]:
        for frame in super().decode(sampler):
            yield RecordingFrame(frame.index, frame.time, frame.av_frame, frame.duration, converted=self.converted)


@dataclass(frozen=True, eq=False)
class RecordingFrame(DecodedFrame):
    converted: list[int] = field(default_factory=list)

    def to_rgb(self) -> np.ndarray:
        self.converted.append(self.index)
        return super().to_rgb()


def test_only_sampled_frames_are_converted_to_rgb(tmp_path: Path) -> None:
    file = RecordingFile(make(tmp_path / "a.mp4", 50))
    frames = list(FrameReader(file, 5, "fixed", None))
    assert file.converted == list(range(0, 50, 5))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.decoded_index for frame in frames] == file.converted
    assert [frame.time for frame in frames] == pytest.approx([k / 5 for k in range(10)])


def test_open_frames_samples_by_the_clock_in_the_paper_profile(tmp_path: Path) -> None:
    frames = list(open_frames(make(tmp_path / "a.mp4", 95, fps=30), 1, "paper"))
    assert [frame.decoded_index for frame in frames] == [0, 31, 60, 91]
    assert [frame.time for frame in frames] == [0.0, 1.0, 2.0, 3.0]


def test_open_frames_checks_options_and_file_immediately(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError):
        open_frames(tmp_path / "nope.mp4", 1)
    with pytest.raises(OptionError, match="fps must be a number above 0, or none for every frame, got 0"):
        open_frames(make(tmp_path / "a.mp4", 3), 0)
    assert len(list(open_frames(tmp_path / "a.mp4", None, max_frames=2))) == 2


# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_clock_continues_over_missing_and_backward_timestamps() -> None:
    clock = PresentationClock(Fraction(1, 1000), Fraction(10))
    stamps = [700, 800, None, 1000, 20, 120, 220]
    assert [clock.to_seconds(stamp) for stamp in stamps] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert clock.end_seconds == pytest.approx(0.7)


def test_the_clock_starts_at_zero_from_a_negative_timestamp() -> None:
    clock = PresentationClock(Fraction(1, 90000), None)
    assert [clock.to_seconds(stamp) for stamp in (-9000, 0, 9000)] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tiff", ".mp4", ""])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_still_image_is_one_frame_whatever_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    path = tmp_path / f"still{suffix}"
    Image.fromarray(pixels).save(path, kind)
    with VideoFile(path) as file:
        assert [frame.image.shape for frame in file] == [(400, 600, 3)]
