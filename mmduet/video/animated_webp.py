"""Read animated WebP with Pillow, because FFmpeg only decodes still WebP."""

from __future__ import annotations

import io
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame
from PIL import Image

from mmduet.video.damage import DamageLog
from mmduet.video.decoding import TimedFrame
from mmduet.video.demuxing import error_reason
from mmduet.video.image import to_rgb

HEADER_BYTES = 21
RIFF_HEADER, CHUNK_HEADER = 12, 8  # bytes
ANIMATION_FLAG = 0x02
DEFAULT_DURATION_MS = 100  # of frames that declare none, as browsers display them


def is_animated_webp(path: Path) -> bool:
    """Return whether the file starts as an animated WebP does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[16:] and head[-1] & ANIMATION_FLAG)


def read_animated_webp(path: Path, log: DamageLog) -> Generator[TimedFrame]:
    """Yield the frames of one pass of the animation; ``log`` records where a truncated file breaks off."""
    time_ms = 0
    data, is_cut = _read_complete_chunks(path)
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            try:
                image.seek(number)
                pixels = to_rgb(image)
            except Exception as error:  # noqa: BLE001 - Pillow raises many types on damaged files
                log.add_reason(error_reason(error))
                log.truncate(time_ms / 1000)
                return
            duration_ms = int(image.info.get("duration") or DEFAULT_DURATION_MS)
            frame = VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            yield TimedFrame(time_ms / 1000, duration_ms / 1000, frame)
            time_ms += duration_ms
    if is_cut:
        log.truncate(time_ms / 1000)


def _read_complete_chunks(path: Path) -> tuple[bytes, bool]:
    """Return the file up to its last complete chunk, and whether it breaks off after that; libwebp reads only whole files."""
    data = path.read_bytes()
    declared = int.from_bytes(data[4:8], "little") + 8
    end = RIFF_HEADER
    while end + CHUNK_HEADER <= min(len(data), declared):
        length = int.from_bytes(data[end + 4 : end + CHUNK_HEADER], "little")
        following = end + CHUNK_HEADER + length + length % 2
        if following > len(data):
            break
        end = following
    if declared <= len(data):
        return data, False
    return data[:4] + (end - 8).to_bytes(4, "little") + data[8:end], True
