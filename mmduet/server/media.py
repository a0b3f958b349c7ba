"""Loads the images and videos of requests: data URLs, and files and http(s) URLs that the URL policy allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import SourceError, VideoError
from mmduet.redaction import redact
from mmduet.server.cameras import check_camera, is_camera, open_camera
from mmduet.server.registered_videos import FindVideo, RegisteredVideos
from mmduet.server.stored_video import NamedVideo, StoredFile, StoredVideo
from mmduet.server.url_policy import UrlPolicy
from mmduet.text import decode_base64, shorten
from mmduet.video import VideoFile, VideoInfo
from mmduet.video.hls_playlist import DEFAULT_FRAME_SIZE
from mmduet.video.http_client import HTTP_SCHEMES, HttpClient
from mmduet.video.http_source import HttpFile, open_http, open_http_connection
from mmduet.video.image import decode_image
from mmduet.video.letterbox import letterbox
from mmduet.video.live import LiveVideo, RetryCallback
from mmduet.video.network import Transport, first_then
from mmduet.video.source import LiveSource

Abort = Callable[[], None]
"""Closes a connection, so that every read from it ends."""


class MediaLoader:
    """Download and decode media within the server's limits."""

    def __init__(
        self, policy: UrlPolicy, max_bytes: int, max_pixels: int, max_frames: int, frame_size: int | None = None
    ) -> None:
        """Limit a download to ``max_bytes``, an image to ``max_pixels`` and a chat request's video to ``max_frames``.

        ``frame_size`` is the side length of the model's input in pixels; None leaves frames at their own size.
        """
        self._policy, self._frame_size = policy, frame_size
        self._client = HttpClient(policy.check_url, max_bytes)
        self._max_pixels, self.max_frames = max_pixels, max_frames
        self._registered = RegisteredVideos()

    def register_videos(self, scheme: str, find: FindVideo) -> None:
        """Let sources named ``scheme:NAME`` be the files that ``find`` returns, whether or not the policy allows files.

        Events and errors show the name, never the path. Raises ``OptionError`` if the scheme cannot be registered.
        """
        self._registered.register(scheme, find)

    async def load_image(self, url: str) -> NDArray[np.uint8]:
        """Return the image of a data URL or an http(s) URL as RGB ``[H, W, 3]``. Raises ``SourceError`` or ``VideoError``."""
        url = check_media_url(url)
        load = decode_data_url if is_data_url(url) else self.fetch
        return await asyncio.to_thread(decode_image, await asyncio.to_thread(load, url), self._max_pixels)

    def fetch(self, url: str) -> bytes:
        """Download a URL, checking it and every redirect; blocking. Raises ``SourceError``."""
        return self._client.fetch(url)

    def check_size(self, info: VideoInfo) -> None:
        """Raise ``VideoError`` if a video's frames have more than ``max_pixels`` pixels."""
        if info.width * info.height > self._max_pixels:
            raise VideoError(
                f"the video's frames are {info.width}x{info.height}, more than {self._max_pixels} pixels; scale it down"
            )

    @asynccontextmanager
    async def open_upload(self, url: str) -> AsyncIterator[Path]:
        """Provide the content of a data URL or an http(s) URL as a temporary file.

        Raises ``SourceError``, also for a stream or playlist, or ``StorageError``.
        """
        file = await asyncio.to_thread(self._store, check_media_url(url))
        try:
            yield file.path
        finally:
            await asyncio.to_thread(file.close)

    def _store(self, url: str) -> StoredFile:
        if is_data_url(url):
            return StoredFile("the uploaded video", [decode_data_url(url)])
        opened = open_http(url, self._client, self._frame_size or DEFAULT_FRAME_SIZE)
        if isinstance(opened, HttpFile):
            return self._download(opened)
        opened.close()
        raise SourceError(
            f"{redact(url)} is a stream or playlist, not a file; open it with input_source.open or POST /v1/sessions"
        )

    def _download(self, file: HttpFile) -> StoredFile:
        with closing(file.body):
            return StoredFile(redact(file.requested_url), file.read(self._client.max_bytes))

    def letterbox(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return RGB ``[H, W, 3]`` letterboxed to the model's input size, which the engine then leaves unchanged."""
        return image if self._frame_size is None else letterbox(image, self._frame_size)

    def check_source(self, url: str, owner: str) -> None:
        """Raise ``SourceError`` if ``owner`` may not open a source; blocking, because it resolves the host."""
        if self._registered.find(url, owner) is not None:
            return
        if is_camera(url):
            check_camera(url, self._policy)
        elif is_http(url):
            self._policy.check_url(check_url(url), HTTP_SCHEMES)
        else:
            self._policy.check_file(url)

    def open_source(
        self,
        url: str,
        owner: str,
        transport: Transport,
        on_retry: RetryCallback = lambda reason, pause: None,
        on_open: Callable[[Abort], None] = lambda abort: None,
    ) -> LiveSource:
        """Open a registered video, a file under the policy's roots, a camera, or what is at an http(s) URL; blocking.

        ``on_retry`` is called when a live source's connection is lost, see ``LiveVideo``. ``on_open`` is called with a function
        that breaks the first connection to an http(s) server, and may be called from another thread. Raises ``SourceError``,
        ``VideoError`` or ``StorageError``, which name the URL.
        """
        if (path := self._registered.find(url, owner)) is not None:
            return NamedVideo(path, redact(url))
        if is_camera(url):
            return open_camera(url, transport, self._policy, on_retry)
        if not is_http(url):
            return NamedVideo(self._policy.check_file(url), redact(url))
        frame_size = self._frame_size or DEFAULT_FRAME_SIZE
        opened = open_http(check_url(url), self._client, frame_size)
        on_open(opened.body.abort if isinstance(opened, HttpFile) else opened.close)
        if isinstance(opened, HttpFile):
            return StoredVideo(self._download(opened))
        reconnect = partial(open_http_connection, url, self._client, frame_size)
        return LiveVideo(redact(url), first_then(opened, reconnect), on_retry=on_retry)


def check_url(url: str) -> str:
    """Return the URL without white space around it. Raises ``SourceError`` if there is any within, except in a data URL."""
    url = url.strip()
    if not is_data_url(url) and any(char.isspace() for char in url):
        raise SourceError(f"{shorten(redact(url))!r} is not a valid URL: it contains white space; use %20")
    return url


def check_media_url(url: str) -> str:
    """Return what ``check_url`` returns. Raises ``SourceError`` also for what is neither an address nor a data URL."""
    url = check_url(url)
    if ":" not in url:
        raise SourceError(
            f"{shorten(url)!r} is not a URL; use an address, or data:TYPE;base64,DATA for the content of a file"
        )
    return url


def probe(path: Path) -> VideoInfo:
    """Return a video file's metadata. Raises ``VideoError``."""
    with VideoFile(path) as file:
        return file.info


def is_http(url: str) -> bool:
    """Return whether ``url`` is an address on the web."""
    return url.lower().startswith(tuple(f"{scheme}:" for scheme in HTTP_SCHEMES))


def is_data_url(url: str) -> bool:
    """Return whether ``url`` is a data URL; schemes have no case."""
    return url[:5].lower() == "data:"


def decode_data_url(url: str) -> bytes:
    """Return the bytes of a data URL. Raises ``SourceError``."""
    head, comma, body = url.partition(",")
    if not comma:
        raise SourceError(f"{head[:60]!r} is not a valid data URL: it has no comma; use data:TYPE;base64,DATA")
    if not "".join(head.split()).lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return decode_base64(body)
    except ValueError as error:
        raise SourceError(f"the data URL {head[:60]!r} is not valid base64 ({error}); encode the file again") from None
