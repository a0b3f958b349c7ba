"""Loads the images and videos of requests: data URLs, and files and http(s) URLs that the URL policy allows."""

from __future__ import annotations

import asyncio
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
from mmduet.redaction import redact
from mmduet.server.live_sources import open_live_source
from mmduet.server.url_policy import UrlPolicy
from mmduet.text import decode_base64, shorten
from mmduet.video import VideoFile, VideoInfo
from mmduet.video.image import decode_image
from mmduet.video.letterbox import letterbox
from mmduet.video.network import Transport
from mmduet.video.source import LiveSource

HTTP_SCHEMES = ("http", "https")
MAX_REDIRECTS = 5
FETCH_TIMEOUT_SECONDS = 30.0


class MediaLoader:
    """Download and decode media within the server's limits."""

    def __init__(
        self, policy: UrlPolicy, max_bytes: int, max_pixels: int, max_frames: int, frame_size: int | None = None
    ) -> None:
        """Limit a download to ``max_bytes``, an image to ``max_pixels`` and a chat request's video to ``max_frames``.

        ``frame_size`` is the side length of the model's input in pixels; None leaves frames at their own size.
        """
        self._policy, self._max_bytes, self._frame_size = policy, max_bytes, frame_size
        self._max_pixels, self.max_frames = max_pixels, max_frames

    async def load_image(self, url: str) -> NDArray[np.uint8]:
        """Return the image of a data URL or an http(s) URL as RGB ``[H, W, 3]``. Raises ``SourceError`` or ``VideoError``."""
        return await asyncio.to_thread(decode_image, await self._load(url), self._max_pixels)

    def check_size(self, info: VideoInfo) -> None:
        """Raise ``VideoError`` if a video's frames have more than ``max_pixels`` pixels."""
        if info.width * info.height > self._max_pixels:
            raise VideoError(
                f"the video's frames are {info.width}x{info.height}, more than {self._max_pixels} pixels; scale it down"
            )

    @contextlib.asynccontextmanager
    async def open_file(self, url: str) -> AsyncIterator[Path]:
        """Provide a video as a file: one under the policy's roots, or a download that is deleted afterwards."""
        if url.startswith(("http:", "https:")):
            async with self.open_upload(url) as path:
                yield path
        else:
            yield await asyncio.to_thread(self._policy.check_file, url)

    @contextlib.asynccontextmanager
    async def open_upload(self, url: str) -> AsyncIterator[Path]:
        """Provide the content of a data URL or an http(s) URL as a temporary file."""
        with tempfile.TemporaryDirectory(prefix="mmduet-") as folder:
            path = Path(folder) / "video"
            data = await self._load(url)
            await asyncio.to_thread(path.write_bytes, data)
            del data  # it may be large, and a video is read for a long time
            yield path

    async def _load(self, url: str) -> bytes:
        """Return the content of a data URL or an http(s) URL. Raises ``SourceError``."""
        if not is_data_url(url) and any(char.isspace() for char in url):
            raise SourceError(f"{shorten(redact(url))!r} is not a valid URL: it contains white space; use %20")
        return await asyncio.to_thread(decode_data_url if is_data_url(url) else self.fetch, url)

    def letterbox(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return RGB ``[H, W, 3]`` letterboxed to the model's input size, which the engine then leaves unchanged."""
        return image if self._frame_size is None else letterbox(image, self._frame_size)

    def open_live_source(self, url: str, transport: Transport) -> LiveSource:
        """Open an HLS, RTSP or webcam stream; blocking. Raises ``SourceError``."""
        return open_live_source(url, transport, self._policy, self.fetch)

    def fetch(self, url: str) -> bytes:
        """Download a URL, checking it and every redirect; blocking. Raises ``SourceError``."""
        deadline, original_url = monotonic() + FETCH_TIMEOUT_SECONDS, url
        try:
            with httpx2.Client(timeout=FETCH_TIMEOUT_SECONDS, trust_env=False) as client:
                for _ in range(MAX_REDIRECTS + 1):
                    target = self._fetch_once(client, url, deadline)
                    if isinstance(target, bytes):
                        return target
                    url = target
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:  # ValueError: invalid redirect
            raise SourceError(
                f"{redact(url)} cannot be downloaded ({type(error).__name__}); check the address"
            ) from None
        raise SourceError(f"{redact(original_url)} redirects more than {MAX_REDIRECTS} times; use the final address")

    def _fetch_once(self, client: httpx2.Client, url: str, deadline: float) -> bytes | str:
        """Return the response body, or the URL that it redirects to. The connection goes to the checked address."""
        address = self._policy.check_url(url, HTTP_SCHEMES)
        parts = urlsplit(url)
        host = f"[{address}]" if ":" in address else address
        port = f":{parts.port}" if parts.port else ""
        address_url = parts._replace(netloc=f"{host}{port}").geturl()
        headers = {"Host": f"{parts.hostname}{port}"}
        extensions = {"sni_hostname": parts.hostname}
        with client.stream("GET", address_url, headers=headers, extensions=extensions) as response:
            if response.has_redirect_location:
                return urljoin(url, response.headers["location"])
            if response.status_code != 200:
                raise SourceError(f"{redact(url)} returned HTTP status {response.status_code}; check the address")
            return self._read_body(response, url, deadline)

    def _read_body(self, response: httpx2.Response, url: str, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._max_bytes:
                raise SourceError(f"{redact(url)} is larger than {self._max_bytes} bytes; use a smaller file")
            if monotonic() > deadline:
                raise TimeoutError
        return bytes(body)


def probe(path: Path) -> VideoInfo:
    """Return a video file's metadata. Raises ``VideoError``."""
    with VideoFile(path) as file:
        return file.info


def is_data_url(url: str) -> bool:
    """Return whether ``url`` is a data URL; schemes have no case."""
    return url[:5].lower() == "data:"


def decode_data_url(url: str) -> bytes:
    """Return the bytes of a data URL. Raises ``SourceError``."""
    head, comma, body = url.partition(",")
    if not comma:
        raise SourceError(f"{head[:60]!r} is not a valid data URL: it has no comma; use data:TYPE;base64,DATA")
    if not head.rstrip().lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return decode_base64(body)
    except ValueError as error:
        raise SourceError(f"the data URL {head[:60]!r} is not valid base64 ({error}); encode the file again") from None
