"""Letterboxed frames are the same whether all rows are converted to RGB or only those that are used."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from video_files import make

from mmduet.errors import OptionError
from mmduet.video import VideoFile, letterbox, open_frames
from mmduet.video.row_conversion import convert_letterboxed


def noise_frame(pix_fmt: str, height: int, width: int) -> av.VideoFrame:
    frame, source = av.VideoFrame(width, height, pix_fmt), np.random.default_rng(height * width)
    for plane in frame.planes:
        values = np.frombuffer(plane, np.uint8)
        values[:] = source.integers(0, 256, values.shape)
    return frame


def whole(frame: av.VideoFrame, size: int) -> np.ndarray:
    return letterbox(frame.to_ndarray(format="rgb24", threads=1), size)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize(
    "shape", [(1080, 1920), (720, 1280), (1280, 720), (540, 962), (622, 1000), (402, 718), (600, 66)]
)
@pytest.mark.parametrize("size", [384, 98, 33])
def test_only_used_rows_give_the_image_of_all_rows(pix_fmt: str, shape: tuple[int, int], size: int) -> None:
    frame = noise_frame(pix_fmt, *shape)
    image = convert_letterboxed(frame, size)
    if image is None:  # most rows are used
        assert size == 384
        assert shape != (1080, 1920)
    else:
        np.testing.assert_array_equal(image, whole(frame, size))


@pytest.mark.parametrize("colorspace", [1, 5, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_the_colour_space_is_respected(colorspace: int, color_range: int) -> None:
    frame = noise_frame("yuv420p", 480, 640)
    frame.colorspace, frame.color_range = colorspace, color_range
    np.testing.assert_array_equal(convert_letterboxed(frame, 98), whole(frame, 98))


@pytest.mark.parametrize(
    ("pix_fmt", "height", "reason"),
    [
        ("nv12", 480, "colour differences are interpolated between rows"),
        ("yuv420p10le", 480, "so are these"),
        ("yuv420p", 481, "and those of an odd number of rows"),
        ("yuv420p", 120, "most rows are used"),
    ],
)
def test_other_frames_are_converted_as_a_whole(pix_fmt: str, height: int, reason: str) -> None:
    assert convert_letterboxed(noise_frame(pix_fmt, height, 160), 98) is None


@pytest.mark.parametrize("options", [{}, {"rotation": 90}, {"hflip": True}, {"rotation": 180}, {"pix_fmt": "yuv444p"}])
def test_the_reader_letterboxes_upright_frames(tmp_path: Path, options: dict[str, object]) -> None:
    path = make(tmp_path / "a.mp4", 6, (240, 320), **options)  # type: ignore[arg-type]
    images = [frame.image for frame in open_frames(path, 8, size=49)]
    expected = [letterbox(frame.image, 49) for frame in open_frames(path, 8)]
    assert len(images) == 2
    np.testing.assert_array_equal(images, expected)


def test_a_frame_of_the_file_is_converted_in_part(tmp_path: Path) -> None:
    frame = next(VideoFile(make(tmp_path / "a.mp4", 2, (240, 320))).decode())
    np.testing.assert_array_equal(convert_letterboxed(frame.av_frame, 49), letterbox(frame.to_rgb(), 49))


def test_a_size_below_one_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="size must be"):
        open_frames(make(tmp_path / "a.mp4", 2), 1, size=0)
