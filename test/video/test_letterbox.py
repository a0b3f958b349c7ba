"""The letterbox against recorded results of OpenCV (cv2.resize with INTER_LINEAR; versions 4.14 and 5.0 agree)."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from mmduet.errors import OptionError
from mmduet.video import letterbox
from mmduet.video.letterbox import fit_size, resize


def noise(height: int, width: int) -> np.ndarray:
    """Return an image that is the same with every NumPy version: the high bytes of a quadratic sequence."""
    places = np.arange(height * width * 3, dtype=np.uint64)
    return ((places * places * 2654435761 + places * 40503) >> 16 & 255).astype(np.uint8).reshape(height, width, 3)


def checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


SMALL = [
    (
        (2, 3),
        (4, 4),
        [
            0,
            56,
            223,
            153,
            97,
            152,
            231,
            137,
            153,
            208,
            162,
            227,
            37,
            86,
            183,
            138,
            115,
            140,
            202,
            141,
            151,
            207,
            154,
            213,
            110,
            147,
            103,
            107,
            152,
            116,
            143,
            149,
            147,
            204,
            139,
            184,
            147,
            177,
            63,
            92,
            171,
            104,
            113,
            153,
            144,
            203,
            131,
            170,
        ],
    ),
    (
        (5, 7),
        (3, 4),
        [
            122,
            119,
            174,
            138,
            184,
            171,
            53,
            159,
            131,
            145,
            129,
            140,
            146,
            187,
            179,
            112,
            95,
            222,
            30,
            148,
            185,
            61,
            89,
            69,
            68,
            184,
            187,
            154,
            138,
            127,
            76,
            119,
            93,
            163,
            74,
            65,
        ],
    ),
    ((4, 6), (2, 3), [117, 122, 174, 147, 178, 128, 76, 133, 172, 118, 149, 100, 114, 171, 147, 136, 91, 157]),
    ((3, 2), (5, 1), [122, 89, 166, 144, 121, 157, 178, 170, 145, 149, 157, 147, 131, 149, 149]),
]

SUMS = [
    ((720, 1280), (216, 384), 2281269427),
    ((240, 320), (288, 384), 4126843727),
    ((768, 768), (384, 384), 4096710452),
    ((432, 768), (216, 384), 3937366232),
    ((433, 768), (216, 384), 2582674159),
    ((256, 256), (64, 64), 845761191),
    ((37, 100), (142, 384), 3481959075),
    ((1, 1), (64, 64), 3009373007),
    ((1, 2), (32, 64), 1907299792),
    ((1080, 1920), (216, 384), 2887275951),
    ((95, 612), (505, 405), 2616378743),
    ((29, 484), (512, 570), 636979659),
    ((569, 123), (639, 454), 3166681527),
    ((11, 610), (604, 84), 2094467849),
    ((649, 679), (677, 468), 1267410318),
    ((337, 600), (215, 384), 2887485882),
]


@pytest.mark.parametrize(("source", "target", "expected"), SMALL)
def test_small_images_equal_opencv(source: tuple[int, int], target: tuple[int, int], expected: list[int]) -> None:
    assert resize(noise(*source), *target).ravel().tolist() == expected


@pytest.mark.parametrize(("source", "target", "expected"), SUMS)
def test_checksums_equal_opencv(source: tuple[int, int], target: tuple[int, int], expected: int) -> None:
    assert checksum(resize(noise(*source), *target)) == expected


def test_letterbox_centres_and_puts_an_odd_line_of_padding_last() -> None:
    boxed = letterbox(np.full((63, 128, 3), 200, np.uint8), 64)  # 31 lines: 16 before, 17 after
    assert boxed.shape == (64, 64, 3)
    assert boxed.dtype == np.uint8
    lines = boxed.any(axis=(1, 2))
    assert lines.nonzero()[0].tolist() == list(range(16, 47))
    assert (boxed[16:47] == 200).all()


def test_a_portrait_image_is_padded_left_and_right() -> None:
    boxed = letterbox(np.full((128, 63, 3), 9, np.uint8), 64)
    assert boxed.any(axis=(0, 2)).nonzero()[0].tolist() == list(range(16, 47))


def test_an_image_of_the_target_size_is_copied() -> None:
    image = noise(64, 64)
    boxed = letterbox(image, 64)
    assert (boxed == image).all()
    assert not np.shares_memory(boxed, image)


def test_strided_views_give_the_same_result_as_copies() -> None:
    image = noise(90, 120)
    assert (letterbox(image[:, ::-1], 48) == letterbox(image[:, ::-1].copy(), 48)).all()
    assert (letterbox(image.transpose(1, 0, 2), 48) == letterbox(image.transpose(1, 0, 2).copy(), 48)).all()


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (720, 1280, 384, (216, 384)),
        (1280, 720, 384, (384, 216)),
        (480, 640, 384, (288, 384)),
        (480, 854, 384, (215, 384)),
        (100, 100, 64, (64, 64)),
        (1, 1000, 64, (1, 64)),
        (1, 49, 98, (1, 98)),  # one below the exact quotient, because of float rounding
    ],
)
def test_fit_size_truncates_the_shorter_side_in_floats(
    height: int, width: int, size: int, expected: tuple[int, int]
) -> None:
    assert fit_size(height, width, size) == expected


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_images_of_another_dtype_or_shape_are_rejected(image: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"an image must be uint8, height x width x 3 \(RGB\), got"):
        letterbox(image, 8)


def test_a_size_below_one_is_rejected() -> None:
    with pytest.raises(OptionError, match="size must be the model's image size in pixels, such as 384, got 0"):
        letterbox(noise(4, 4), 0)
