"""Pictures and videos that a request names: data URLs, and http(s) where the server's guard allows it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import httpx2
import numpy as np
from numpy.typing import NDArray

from mmduet.errors import SourceError, VideoError
from mmduet.server.cameras import open_camera
from mmduet.server.guard import Guard
from mmduet.video import VideoFile, VideoInfo, open_frames
from mmduet.video.letterbox import letterbox
from mmduet.video.rtsp import Transport, shown
from mmduet.video.source import LiveSource
from mmduet.video.still import decode_still

SCHEMES = ("http", "https")
MOST_REDIRECTS = 5
SECONDS = 30.0


class Media:
    """Fetches at most ``most_bytes`` a time and takes at most ``most_frames`` of a video."""

    def __init__(
        self, guard: Guard, most_bytes: int, most_pixels: int, most_frames: int, picture_size: int | None = None
    ) -> None:
        """``picture_size`` is the side of the pictures that the model sees; None: pulled frames stay as they are."""
        self._guard, self._most_bytes, self._picture_size = guard, most_bytes, picture_size
        self._most_pixels, self.most_frames = most_pixels, most_frames

    async def pictures(self, url: str, fps: float, *, still: bool) -> AsyncIterator[NDArray[np.uint8]]:
        """A still's picture, or a video's frames at ``fps``, as RGB, one at a time.

        Raises ``SourceError`` or ``VideoError``.
        """
        if still:
            data = from_data_url(url) if url.startswith("data:") else await asyncio.to_thread(self.fetch, url)
            yield await asyncio.to_thread(decode_still, data, self._most_pixels)
            return
        async with self._written(url) as path:
            self.check_size(await asyncio.to_thread(look, path))
            frames = open_frames(path, fps, max_frames=self.most_frames + 1)
            while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                yield frame.image

    def check_size(self, info: VideoInfo) -> None:
        """Raise ``VideoError`` for a video whose pictures are too large."""
        if info.width * info.height > self._most_pixels:
            raise VideoError(
                f"a video of {info.width}x{info.height} is more than {self._most_pixels} pixels; scale it down"
            )

    @contextlib.asynccontextmanager
    async def file(self, url: str) -> AsyncIterator[Path]:
        """The file that a URL or a path names: one under the guard's roots, or fetched for as long as the block lasts."""
        if url.startswith(("http:", "https:")):
            async with self._written(url) as path:
                yield path
        else:
            yield await asyncio.to_thread(self._guard.check_file, url)

    @contextlib.asynccontextmanager
    async def _written(self, url: str) -> AsyncIterator[Path]:
        """What a data URL holds, or an address has, as a file."""
        with tempfile.TemporaryDirectory(prefix="mmduet-") as folder:
            path = Path(folder) / "video"
            data = from_data_url(url) if url.startswith("data:") else await asyncio.to_thread(self.fetch, url)
            await asyncio.to_thread(path.write_bytes, data)
            del data  # it may be large, and a video is watched for long
            yield path

    def fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB ``[H, W, 3]`` letterboxed to the size that the model sees, which does not change it again."""
        return image if self._picture_size is None else letterbox(image, self._picture_size)

    def camera(self, url: str, transport: Transport) -> LiveSource:
        """A stream, rather than a file: HLS, RTSP or a webcam. Blocks. Raises ``SourceError``."""
        return open_camera(url, transport, self._guard, self.fetch)

    def fetch(self, url: str) -> bytes:
        """What an address has, redirects followed and each of them checked. Blocks. Raises ``SourceError``."""
        until, first = monotonic() + SECONDS, url
        try:
            with httpx2.Client(timeout=SECONDS, trust_env=False) as client:
                for _ in range(MOST_REDIRECTS + 1):
                    target = self._answer(client, url, until)
                    if isinstance(target, bytes):
                        return target
                    url = target
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            raise SourceError(f"{shown(url)} cannot be fetched ({type(error).__name__})") from None
        raise SourceError(f"{shown(first)} redirects more than {MOST_REDIRECTS} times; give the last address")

    def _answer(self, client: httpx2.Client, url: str, until: float) -> bytes | str:
        """The body, or where else to look; every address is checked, and what was checked is what is connected to."""
        address = self._guard.check_url(url, SCHEMES)
        parts = urlsplit(url)
        host = f"[{address}]" if ":" in address else address
        port = f":{parts.port}" if parts.port else ""
        direct = parts._replace(netloc=f"{host}{port}").geturl()
        headers = {"Host": f"{parts.hostname}{port}"}
        extensions = {"sni_hostname": parts.hostname}
        with client.stream("GET", direct, headers=headers, extensions=extensions) as response:
            if response.has_redirect_location:
                return urljoin(url, response.headers["location"])
            if response.status_code != 200:
                raise SourceError(f"{shown(url)} answers {response.status_code}; check the address")
            return self._body(response, url, until)

    def _body(self, response: httpx2.Response, url: str, until: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._most_bytes:
                raise SourceError(f"{shown(url)} is larger than {self._most_bytes} bytes; give a smaller file")
            if monotonic() > until:
                raise TimeoutError
        return bytes(body)


def look(path: Path) -> VideoInfo:
    """What a file says of itself. Raises ``VideoError``."""
    with VideoFile(path) as file:
        return file.info


def from_data_url(url: str) -> bytes:
    """The bytes of a data URL. Raises ``SourceError``."""
    head, comma, body = url.partition(",")
    if not comma:
        raise SourceError(f"{head[:60]!r} is no data URL; it has no comma")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SourceError(f"{head[:60]!r} holds no base64 ({error}); encode it anew") from None
