"""Convert only those rows of a decoded frame to RGB that its letterboxed image is made of."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from mmduet.video.letterbox import fit_size, pad, read_rows, resize_rows

FORMATS = frozenset({"yuv420p", "yuvj420p"})
"""Formats of which FFmpeg converts each pair of rows on its own, if there is an even number; others are interpolated."""

MAX_SHARE = 0.8
"""Share of the rows above which converting all of them is as fast."""

Image = NDArray[np.uint8]


def convert_letterboxed(frame: VideoFrame, size: int) -> Image | None:
    """Return the frame as stored, letterboxed to uint8 ``[size, size, 3]``; None if it has to be converted as a whole.

    The result equals that of the whole frame.
    """
    is_upside_down = any(plane.line_size <= 0 for plane in frame.planes)
    if frame.format.name not in FORMATS or frame.height % 2 or is_upside_down:
        return None
    height, width = fit_size(frame.height, frame.width, size)
    pairs = np.unique(read_rows(frame.height, height) // 2)
    if 2 * len(pairs) > MAX_SHARE * frame.height:
        return None
    rgb = _take_row_pairs(frame, pairs).to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
    rows = (2 * pairs[:, None] + np.arange(2)).ravel()  # [2 * pairs]
    return pad(resize_rows(rgb, rows, frame.height, height, width), size)


def _take_row_pairs(frame: VideoFrame, pairs: NDArray[np.intp]) -> VideoFrame:
    """Return a frame of the pairs of rows with these numbers, which share their rows of colour differences."""
    part = VideoFrame(frame.width, 2 * len(pairs), frame.format.name)
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    for source, target in zip(frame.planes, part.planes, strict=True):
        rows_per_pair = 2 if source.height == frame.height else 1
        lines, selected = _lines(source, rows_per_pair), _lines(target, rows_per_pair)
        count = min(lines.shape[2], selected.shape[2])  # planes may be padded differently
        selected[:, :, :count] = lines[pairs, :, :count]
    return part


def _lines(plane: VideoPlane, rows_per_pair: int) -> Image:
    """Return a view of a plane, ``[pairs, rows per pair, bytes]``."""
    lines: Image = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size]
    return lines.reshape(-1, rows_per_pair, plane.line_size)
