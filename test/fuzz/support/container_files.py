"""Small intact files of many containers, from which damaged ones are made. Everything is deterministic."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, FRAMES, FPS = 48, 32, 6, 4
#: Names of boxes, elements and chunks, which mutations insert.
WORDS = (
    b"moov", b"trak", b"stts", b"stsz", b"stco", b"ctts", b"mdat", b"elst", b"avc1", b"zzz1", b"mp4a", b"tmcd",
    b"\x47\x40\x00\x10", b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75", b"GIF89a", b"\x21\xf9\x04", b"RIFF", b"ANMF", b"VP8L",
    b"\xff\xd8\xff\xe1", b"\xff\xda", b"#EXTM3U\n", b"ffconcat version 1.0\nfile '/etc/hostname'\n",
)  # fmt: skip


def picture(step: int) -> np.ndarray:
    """Return a frame with a moving bar."""
    image = np.full((HEIGHT, WIDTH, 3), (40, 80, 120), np.uint8)
    image[:, 4 * step : 4 * step + 8] = (220, 200, 40)
    return image


def _video(container: str, codec: str, pixels: str = "yuv420p", *, sound: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, FPS, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        audio = output.add_stream(sound, 16000) if sound else None
        for step in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(step), "rgb24").reformat(format=pixels)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
            silence.sample_rate = 16000
            output.mux(audio.encode(silence))
            output.mux(audio.encode(None))
    return buffer.getvalue()


def _image(kind: str, *, animated: bool = False) -> bytes:
    buffer, images = io.BytesIO(), [Image.fromarray(picture(step)) for step in range(3)]
    more = {"save_all": True, "append_images": images[1:], "duration": 200} if animated else {}
    images[0].save(buffer, kind, **more)
    return buffer.getvalue()


MAKERS: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: _video("mp4", "libx264"),
    "mpeg4.mp4": lambda: _video("mp4", "mpeg4"),
    "sound.mp4": lambda: _video("mp4", "mpeg4", sound="aac"),
    "mkv": lambda: _video("matroska", "mpeg4"),
    "webm": lambda: _video("webm", "libvpx"),
    "ts": lambda: _video("mpegts", "mpeg2video"),
    "avi": lambda: _video("avi", "mjpeg", "yuvj420p"),
    "flv": lambda: _video("flv", "flv"),
    "gif": lambda: _image("GIF", animated=True),
    "webp": lambda: _image("WEBP", animated=True),
    "jpg": lambda: _image("JPEG"),
    "png": lambda: _image("PNG"),
}


@cache
def intact(name: str) -> bytes:
    """Return the intact file of a container."""
    return MAKERS[name]()
