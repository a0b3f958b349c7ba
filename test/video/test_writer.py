"""The writer: written frames can be read back, and a file is complete or absent."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmduet.errors import OptionError, VideoWriteError
from mmduet.video import VideoFile, VideoWriter


def flat(red: int, green: int, blue: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def grey_ramp(count: int) -> list[np.ndarray]:
    return [flat(10 * k, 10 * k, 10 * k) for k in range(count)]


def test_frames_come_back_in_order_and_on_time(tmp_path: Path) -> None:
    images = grey_ramp(20)
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 30000 / 1001) as writer:
        for image in images:
            writer.write(image)
    with VideoFile(tmp_path / "a.mp4") as file:
        frames = list(file)
        assert file.info.duration == pytest.approx(20 * 1001 / 30000, abs=1e-4)
    assert [frame.time for frame in frames] == pytest.approx([k * 1001 / 30000 for k in range(20)], abs=1e-5)
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 3


@pytest.mark.parametrize("preset", ["ultrafast", "medium"])
def test_explicit_times_are_kept(tmp_path: Path, preset: str) -> None:
    times = [0.0, 0.04, 0.5, 0.51, 3.25, 3.3]
    with VideoWriter(tmp_path / "vfr.mp4", 64, 48, 25, preset=preset) as writer:
        for image, time in zip(grey_ramp(6), times, strict=True):
            writer.write(image, time)
    frames = list(VideoFile(tmp_path / "vfr.mp4"))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=2e-5)
    assert [round(frame.image.mean(), -1) for frame in frames] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (0, 0, 0), (255, 255, 255)])
def test_colours_are_preserved(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    with VideoWriter(tmp_path / "c.mp4", 64, 48, 10, crf=10) as writer:
        writer.write(flat(*colour))
    image = next(iter(VideoFile(tmp_path / "c.mp4"))).image
    assert np.abs(image.astype(int) - colour).max() <= 4


def test_colour_tags_and_pixel_format(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "c.mp4", 64, 48, 10) as writer:
        writer.write(flat(1, 2, 3))
    with av.open(str(tmp_path / "c.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (6, 6, 6, 1)


def test_odd_sides_are_extended_by_a_copy_of_the_last_line(tmp_path: Path) -> None:
    image = flat(40, 40, 40, 47, 63)
    image[-1], image[:, -1] = 220, 220
    with VideoWriter(tmp_path / "odd.mp4", 63, 47, 10, crf=1) as writer:
        writer.write(image)
    read = next(iter(VideoFile(tmp_path / "odd.mp4"))).image
    assert read.shape == (48, 64, 3)
    assert np.abs(read[-2:].astype(int) - 220).max() < 12
    assert np.abs(read[:, -2:].astype(int) - 220).max() < 12
    assert np.abs(read[:45, :61].astype(int) - 40).max() < 12


def test_gop_bounds_the_distance_of_key_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "g.mp4", 64, 48, 10, gop=5) as writer:
        for image in grey_ramp(12):
            writer.write(image)
    with av.open(str(tmp_path / "g.mp4")) as container:
        keys = [k for k, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert {0, 5, 10} <= set(keys)


def fail_inside(path: Path) -> None:
    with VideoWriter(path, 64, 48, 10) as writer:
        writer.write(flat(1, 1, 1))
        raise ZeroDivisionError


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_inside(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError):
        fail_inside(path)
    assert path.read_text() == "before"
    with VideoWriter(path, 64, 48, 10) as writer:
        writer.write(flat(1, 1, 1))
        assert path.read_text() == "before"  # it is replaced at the end
    assert len(list(VideoFile(path))) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_is_rejected_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoWriteError, match="has no frames; write at least one"),
        VideoWriter(tmp_path / "a.mp4", 64, 48, 10),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_allowed_and_writing_afterwards_is_rejected(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, 10)
    writer.write(flat(1, 1, 1))
    writer.close()
    writer.close()
    with pytest.raises(VideoWriteError, match="closed"):
        writer.write(flat(1, 1, 1))
    assert len(list(VideoFile(tmp_path / "a.mp4"))) == 1


@pytest.mark.parametrize("time", [0.5, 0.2, float("nan"), -1.0])
def test_times_must_increase(tmp_path: Path, time: float) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, 10)
    writer.write(flat(1, 1, 1), 0.5)
    with pytest.raises(OptionError, match="order of time"):
        writer.write(flat(1, 1, 1), time)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_rejected(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, 10)
    with pytest.raises(OptionError, match="48x64 in a video of 64x48"):
        writer.write(flat(1, 1, 1, 64, 48))
    writer.abort()


def test_a_missing_folder_and_an_invalid_preset_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(VideoWriteError, match=r"a\.mp4 cannot be written"):
        VideoWriter(tmp_path / "nowhere" / "a.mp4", 64, 48, 10)
    with pytest.raises(VideoWriteError, match="cannot be written"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, 10, preset="warp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "height", "fps"), [(0, 48, 10), (64, 20000, 10), (64, 48, 0)])
def test_invalid_sizes_and_rates_are_rejected(tmp_path: Path, width: int, height: int, fps: float) -> None:
    with pytest.raises(OptionError):
        VideoWriter(tmp_path / "a.mp4", width, height, fps)
    assert list(tmp_path.iterdir()) == []
