"""Write HLS playlists with H.264 segments, plain, encrypted, and in one file."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import av
import numpy as np


def write_hls(folder: Path, seconds: int = 3, first: int = 0, size: tuple[int, int] = (64, 48), **options: str) -> Path:
    """Write segments of one second at 8 fps, which show grey 4 * second, counted from ``first``; return the playlist."""
    folder.mkdir(exist_ok=True)
    defaults = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "s%d.ts")}
    if options.get("hls_flags") == "single_file":
        del defaults["hls_segment_filename"]
    with av.open(str(folder / "list.m3u8"), "w", format="hls", options=defaults | options) as container:
        stream = container.add_stream("libx264", rate=8, options={"g": "8"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(8 * seconds):
            image = np.full((size[1], size[0], 3), 40 + 20 * (first + index // 8), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return folder / "list.m3u8"


def encrypt(playlist: Path, key: bytes, *, explicit: bool) -> None:
    """Encrypt every segment of a playlist with AES-128, by OpenSSL; the key is in ``key.bin`` beside it."""
    (playlist.parent / "key.bin").write_bytes(key)
    vector = os.urandom(16)
    text = playlist.read_text()
    for sequence, name in enumerate(re.findall(r"^[^#\s].*$", text, re.MULTILINE)):
        iv = vector if explicit else sequence.to_bytes(16, "big")
        segment = playlist.parent / name
        segment.write_bytes(openssl_encrypt(segment.read_bytes(), key, iv))
    attribute = f",IV=0x{vector.hex()}" if explicit else ""
    playlist.write_text(text.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="key.bin"{attribute}\n#EXTINF', 1))


def openssl_encrypt(data: bytes, key: bytes, vector: bytes) -> bytes:
    command = ["openssl", "enc", "-aes-128-cbc", "-K", key.hex(), "-iv", vector.hex()]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def shown_second(image: np.ndarray) -> int:
    """Return the number of the second that a frame shows."""
    return round((float(image.mean()) - 40) / 20)
