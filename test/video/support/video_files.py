"""Make the files that the video tests read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mmduet.errors import CorruptVideoError
from mmduet.video import VideoFile
from mmduet.video.scheduling import preserved_scheduling


def picture(k: int, height: int, width: int) -> np.ndarray:
    """Return image ``k``: a grey that encodes k, noise below to give packets some size, and a white top left corner."""
    image = np.full((height, width, 3), 4 * k % 200, np.uint8)
    image[height // 2 :] = np.random.default_rng(k).integers(0, 256, (height - height // 2, width, 3))
    image[: height // 4, : width // 4] = 255
    return image


def make(
    path: Path,
    count: int = 30,
    size: tuple[int, int] = (48, 64),
    fps: int = 25,
    times_ms: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    codec_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    rotation: float | None = None,
    hflip: bool = False,
) -> Path:
    height, width = size
    with preserved_scheduling(), av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=codec_options or {"g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        if pix_fmt == "gray":
            stream.codec_context.color_range = 2  # the scaler makes full-range grey
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(picture(k, height, width), "rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets(path: Path) -> list[tuple[int, int, int]]:
    """Return (position, size, pts) of every packet, in file order."""
    with av.open(str(path)) as container:
        return [(p.pos or 0, p.size, p.pts or 0) for p in container.demux(video=0) if p.size]


def times_until_error(file: VideoFile) -> tuple[list[float], CorruptVideoError | None]:
    times: list[float] = []
    try:
        times.extend(frame.time for frame in file.decode())
    except CorruptVideoError as error:
        return times, error
    return times, None


def count_until_error(path: Path) -> tuple[int, CorruptVideoError | None]:
    count = 0
    try:
        for _ in VideoFile(path, strict=True).decode():
            count += 1
    except CorruptVideoError as error:
        return count, error
    return count, None


def greys(path: Path) -> list[int]:
    """Return the number of the ``picture`` that each frame shows, from its grey."""
    return [round(float(frame.image[14:22, 20:60].mean()) / 4) for frame in VideoFile(path)]
