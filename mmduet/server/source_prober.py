"""Tests whether sources can be read, in a bounded time and a bounded number of threads."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Lock

from mmduet.errors import CapacityError, RateLimitError, SourceError
from mmduet.protocol.source_probe import SourceProbe
from mmduet.redaction import redact
from mmduet.server.client_secrets import account_of
from mmduet.server.key_limiter import KeyLimiter
from mmduet.server.media import Abort, MediaLoader
from mmduet.server.source_reader import close_frames
from mmduet.server.thumbnails import encode_thumbnail
from mmduet.text import shorten
from mmduet.video.network import Transport

MAX_PROBES, MAX_PROBES_PER_SECRET = 4, 2
"""Tests that run at a time: of all clients together, and of one client secret."""
PROBE_SECONDS = 10.0


class _Attempt:
    """An attempt to open a source, whose connection is broken when its time is over."""

    def __init__(self) -> None:
        self._lock, self._is_expired = Lock(), False
        self._abort: Abort | None = None

    def on_open(self, abort: Abort) -> None:
        """Keep what breaks the connection; called by the thread that opens the source."""
        with self._lock:
            self._abort = abort
            is_expired = self._is_expired
        if is_expired:
            abort()

    def expire(self) -> None:
        """Break the connection, or that which is made later."""
        with self._lock:
            self._is_expired, abort = True, self._abort
        if abort is not None:
            abort()


class SourceProber:
    """Opens sources for their first frame, and answers within ``PROBE_SECONDS``."""

    def __init__(self, media: MediaLoader) -> None:
        self._media, self._timeout_seconds = media, PROBE_SECONDS
        self._running = 0
        self._running_by_owner = Counter[str]()
        self._executor = ThreadPoolExecutor(MAX_PROBES, thread_name_prefix="mmduet-probe")

    async def probe(self, url: str, transport: Transport, owner: str, limiter: KeyLimiter) -> SourceProbe:
        """Open a source, read its first frame and close it. Meanwhile it counts as a source of the key.

        Raises what ``MediaLoader.open_source`` raises, ``SourceError`` after the timeout, ``RateLimitError`` if the key has too
        many sources or the client secret too many tests, and ``CapacityError`` if too many tests are running.
        """
        if owner != account_of(owner) and self._running_by_owner[owner] >= MAX_PROBES_PER_SECRET:
            raise RateLimitError(
                f"{MAX_PROBES_PER_SECRET} connection tests of this client secret are running; try again later"
            )
        if self._running >= MAX_PROBES:
            raise CapacityError(f"all {MAX_PROBES} connection tests of the server are in use; try again later")
        probe_id = f"probe_{secrets.token_hex(8)}"
        limiter.open_source(probe_id)
        self._running += 1
        self._running_by_owner[owner] += 1
        attempt, loop = _Attempt(), asyncio.get_running_loop()
        probing = loop.run_in_executor(self._executor, self._probe, url, transport, owner, attempt)

        def on_finished(finished: asyncio.Future[SourceProbe]) -> None:
            """Free the place, possibly after the answer: not every attempt to connect can be interrupted."""
            self._running -= 1
            self._running_by_owner -= Counter({owner: 1})  # forgets owners without tests
            limiter.close_source(probe_id)
            if not finished.cancelled():
                finished.exception()  # mark it as retrieved

        probing.add_done_callback(on_finished)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.shield(probing)
        except TimeoutError:
            attempt.expire()
            raise SourceError(
                f"{shorten(redact(url))} has delivered no frame within {self._timeout_seconds:g} s; "
                "check the address, and that the device is on"
            ) from None

    def _probe(self, url: str, transport: Transport, owner: str, attempt: _Attempt) -> SourceProbe:
        with closing(self._media.open_source(url, owner, transport, on_open=attempt.on_open)) as video:
            info, name = video.info, redact(url)
            self._media.check_size(info)
            frames = video.frames(None)
            try:
                frame = next(frames, None)
            finally:
                close_frames(frames)
            if frame is None:
                raise SourceError(f"{name} has no frames; check the address")
            return SourceProbe(
                url=name,
                width=info.width,
                height=info.height,
                fps=info.fps,
                duration=info.duration,
                live=video.live,
                codec=info.codec,
                thumbnail=encode_thumbnail(self._media.letterbox(frame.image)),
            )
