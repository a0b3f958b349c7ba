"""Letterbox frames exactly as for the published checkpoints.

The checkpoints were trained on frames scaled by OpenCV (bilinear, uint8) in fixed-point arithmetic: 11-bit weights, truncation
after each pass and rounding at the end. A float resize differs by one level in a third of the pixels, so this module reproduces
the fixed-point arithmetic in NumPy.
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
    """The two input positions that each output position is interpolated from, and their fixed-point weights, each [N]."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: NDArray[np.int32]
    high_weight: NDArray[np.int32]


def letterbox(image: Image, size: int) -> Image:
    """Scale the longer side of uint8 ``[H, W, 3]`` to ``size`` and pad with black to uint8 ``[size, size, 3]``.

    If the padding is odd, the extra line is at the bottom or right. Raises OptionError for another dtype or shape.
    """
    check_image(image)
    return pad(resize(image, *fit_size(image.shape[0], image.shape[1], size)), size)


def pad(image: Image, size: int) -> Image:
    """Pad uint8 ``[H, W, 3]`` with black to ``[size, size, 3]``; an odd line is at the bottom or right."""
    height, width = image.shape[:2]
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[top : top + height, left : left + width] = image
    return canvas


def fit_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the (height, width) with the same aspect ratio whose longer side is ``size``.

    The shorter side is ``int(short / long * size)``, in floats and in that order, as in the checkpoints' training: another
    order of operations can round to another integer. It is at least 1. Raises OptionError for a size below 1.
    """
    check_size(size)
    if height > width:
        return size, max(int(width / height * size), 1)
    return max(int(height / width * size), 1), size


def resize(image: Image, height: int, width: int) -> Image:
    """Resize uint8 ``[H, W, 3]`` to uint8 ``[height, width, 3]``; every pixel equals that of OpenCV's INTER_LINEAR."""
    if image.shape[:2] == (height, width):
        return image
    return _resize_rows(image, _taps(image.shape[0], height, clamp=False), width)


def read_rows(height: int, target: int) -> NDArray[np.intp]:
    """Return the rows, ascending, that ``resize`` reads from ``height`` rows for ``target`` other ones."""
    taps = _taps(height, target, clamp=False)
    return np.union1d(taps.low[taps.low_weight > 0], taps.high[taps.high_weight > 0])


def resize_rows(image: Image, rows: NDArray[np.intp], source_height: int, height: int, width: int) -> Image:
    """Resize an image of which only some rows are given: ``image [R, W, 3]`` has ``rows`` (ascending) of ``source_height``.

    They include ``read_rows``; the result is then that of ``resize`` for all rows.
    """
    taps = _taps(source_height, height, clamp=False)
    low, high = (np.searchsorted(rows, each).clip(max=len(rows) - 1) for each in (taps.low, taps.high))
    return _resize_rows(image, taps._replace(low=low, high=high), width)  # rows of weight 0 may be any


def _resize_rows(image: Image, rows: Taps, width: int) -> Image:
    columns = _per_byte(_taps(image.shape[1], width, clamp=True))  # each [width * 3]
    lines = image.reshape(image.shape[0], -1)  # [H, W * 3]
    low = _interpolate_columns(lines[rows.low], columns, rows.low_weight)
    high = _interpolate_columns(lines[rows.high], columns, rows.high_weight)
    return ((low + high + 2) >> 2).astype(np.uint8).reshape(-1, width, 3)


def check_size(size: int) -> None:
    """Raise OptionError for a size below 1."""
    if size < 1:
        raise OptionError(f"size must be the model's image size in pixels, such as 384, got {size}")


def check_image(image: Image) -> None:
    """Raise OptionError unless the image is a non-empty uint8 ``[H, W, 3]``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        shape = "x".join(map(str, image.shape))
        raise OptionError(f"an image must be uint8, height x width x 3 (RGB), got {image.dtype} {shape}")


def _interpolate_columns(lines: Image, columns: Taps, weight: NDArray[np.int32]) -> NDArray[np.int32]:
    """Scale uint8 ``[height, W * 3]`` to ``[height, width * 3]`` times each line's weight, in quarters of a level."""
    total = lines.take(columns.low, axis=1).astype(np.int32)
    total *= columns.low_weight
    other = lines.take(columns.high, axis=1).astype(np.int32)
    other *= columns.high_weight
    total += other
    total >>= 4  # in place: allocating arrays of this size costs more than the arithmetic
    total *= weight[:, None]
    total >>= 16
    return total


def _per_byte(taps: Taps) -> Taps:
    """Expand the taps of pixels [N] to taps of the bytes of an RGB line [N * 3]."""
    channels = np.arange(3)
    low, high = ((3 * pixels[:, None] + channels).ravel() for pixels in (taps.low, taps.high))
    return Taps(low, high, taps.low_weight.repeat(3), taps.high_weight.repeat(3))


@lru_cache(maxsize=64)
def _taps(source: int, target: int, clamp: bool) -> Taps:
    """Return the taps that scale ``source`` pixels to ``target``.

    As in OpenCV, pixel centres are aligned, positions are float32, and weights are rounded half to even. Beyond the border both
    taps are the edge pixel. OpenCV then gives one tap the whole weight horizontally (``clamp``), but keeps both weights
    vertically, which affects the truncation.
    """
    centres = (np.arange(target) + 0.5) * (1 / (target / source)) - 0.5
    position = centres.astype(np.float32)
    low = np.floor(position).astype(np.intp)
    fraction = position - low.astype(np.float32)
    if clamp:
        fraction[(low < 0) | (low >= source - 1)] = 0
    weights = [
        np.rint(share * np.float32(WEIGHT_ONE)).astype(np.int32) for share in (np.float32(1) - fraction, fraction)
    ]
    return Taps(np.clip(low, 0, source - 1), np.clip(low + 1, 0, source - 1), *weights)
