"""Letterbox frames exactly as for the published checkpoints.

The checkpoints saw frames scaled by OpenCV (bilinear, uint8), which is fixed-point arithmetic: 11-bit weights, a
truncation after each pass and a rounding at the end. A float resize differs by a level on a third of the pixels, so
the fixed-point one is done here, in NumPy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import OptionError

Image = NDArray[np.uint8]
WEIGHT_ONE = 2048  # 1.0 in the 11-bit fixed point of the weights


class Taps(NamedTuple):
    """For each output position the two input positions that make it and their fixed-point weights, each [N]."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: NDArray[np.int32]
    high_weight: NDArray[np.int32]


def letterbox(image: Image, size: int) -> Image:
    """uint8 ``[H, W, 3]`` to uint8 ``[size, size, 3]``: the long side scaled to ``size``, the rest black.

    An odd rest puts the extra line below or to the right. Raises OptionError for another dtype or shape.
    """
    check_image(image)
    height, width = fit_size(image.shape[0], image.shape[1], size)
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[top : top + height, left : left + width] = resize(image, height, width)
    return canvas


def fit_size(height: int, width: int, size: int) -> tuple[int, int]:
    """The (height, width) whose long side is ``size`` and whose short side is cut down to an integer.

    The short side is ``int(short / long * size)``, in floats and in that order, as the checkpoints were fed: another
    order of the same product can fall on the other side of a whole number. At least 1, so that a thin ribbon still
    has a pixel. Raises OptionError for a size below 1.
    """
    if size < 1:
        raise OptionError(f"size {size} is not a picture size; give the model's image size in pixels, such as 384")
    if height > width:
        return size, max(int(width / height * size), 1)
    return max(int(height / width * size), 1), size


def resize(image: Image, height: int, width: int) -> Image:
    """uint8 ``[H, W, 3]`` to uint8 ``[height, width, 3]``, equal to OpenCV's INTER_LINEAR in every pixel."""
    if image.shape[:2] == (height, width):
        return image
    columns = _in_bytes(_taps(image.shape[1], width, clamp=True))  # each [width * 3]
    rows = _taps(image.shape[0], height, clamp=False)  # each [height]
    lines = image.reshape(image.shape[0], -1)  # [H, W * 3]
    blended = _across(lines[rows.low], columns, rows.low_weight) + _across(lines[rows.high], columns, rows.high_weight)
    return ((blended + 2) >> 2).astype(np.uint8).reshape(height, width, 3)


def check_image(image: Image) -> None:
    """Raise OptionError unless the picture is a non-empty uint8 ``[H, W, 3]``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        shape = "x".join(map(str, image.shape))
        raise OptionError(f"picture of {image.dtype} {shape} cannot be used; give uint8 height x width x 3 (RGB)")


def _across(lines: Image, columns: Taps, weight: NDArray[np.int32]) -> NDArray[np.int32]:
    """uint8 ``[height, W * 3]`` scaled to ``[height, width * 3]``, each line times its weight; in quarter levels."""
    total = lines.take(columns.low, axis=1).astype(np.int32)
    total *= columns.low_weight
    other = lines.take(columns.high, axis=1).astype(np.int32)
    other *= columns.high_weight
    total += other
    total >>= 4  # in place from here on: the arrays are large and fresh ones cost more than the arithmetic
    total *= weight[:, None]
    total >>= 16
    return total


def _in_bytes(taps: Taps) -> Taps:
    """The taps of pixels [N] as taps of the bytes of an RGB line [N * 3]."""
    channels = np.arange(3)
    low, high = ((3 * place[:, None] + channels).ravel() for place in (taps.low, taps.high))
    return Taps(low, high, taps.low_weight.repeat(3), taps.high_weight.repeat(3))


@lru_cache(maxsize=64)
def _taps(source: int, target: int, clamp: bool) -> Taps:
    """Pixel centres are aligned; positions are float32 and weights round half to even, as OpenCV has them.

    Beyond the border both taps fall on the edge pixel. OpenCV then gives one tap the whole weight across (``clamp``)
    but leaves the two weights down, which changes the truncation.
    """
    centres = (np.arange(target) + 0.5) * (1 / (target / source)) - 0.5
    position = centres.astype(np.float32)
    low = np.floor(position).astype(np.intp)
    part = position - low.astype(np.float32)
    if clamp:
        part[(low < 0) | (low >= source - 1)] = 0
    weights = [np.rint(share * np.float32(WEIGHT_ONE)).astype(np.int32) for share in (np.float32(1) - part, part)]
    return Taps(np.clip(low, 0, source - 1), np.clip(low + 1, 0, source - 1), *weights)
