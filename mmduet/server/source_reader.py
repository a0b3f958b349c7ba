"""Reads a video source into a session: a file as fast as its frames are scored, a live source in real time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol, TypeVar

from mmduet.errors import MmduetError
from mmduet.events import Frame
from mmduet.protocol import server_events
from mmduet.protocol.frames import EncodedImage, ImageFormat
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session_status import SourceStatus
from mmduet.protocol.source_damage import SourceDamage
from mmduet.redaction import redact
from mmduet.server.key_limiter import KeyLimiter
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import SOURCE_CONNECTING, SOURCE_FAILED, SOURCE_LIVE, SOURCE_RETRYING
from mmduet.server.media import MediaLoader
from mmduet.video import VideoInfo
from mmduet.video.network import Transport
from mmduet.video.source import LiveSource

log = logging.getLogger(__name__)
T = TypeVar("T")


class SourceOwner(Protocol):
    """The session that a source is read into, its owner, and the limiter of its key."""

    limiter: KeyLimiter
    owner: str

    @property
    def conversation(self) -> Conversation:
        """Return the conversation that receives frames and events."""
        ...

    def on_source_frame(self, *, live: bool) -> None:
        """Count a frame read from the source; ``live`` is False for a file, which is read as fast as it is scored."""

    def on_source_closed(self, event: server_events.SourceClosed) -> None:
        """Send the event and forget the source, which delivers nothing more."""

    def wake(self) -> None:
        """Process new frames and send new events."""


class SourceReader:
    """Read one source in a background task, until it ends or ``stop`` is called."""

    def __init__(
        self, owner: SourceOwner, media: MediaLoader, url: str, unpaused: asyncio.Event, transport: Transport = "tcp"
    ) -> None:
        """While ``unpaused`` is clear, files are not read, and the frames of live sources are dropped."""
        self.url, self.frame_count = redact(url), 0
        self.fps: float | None = None  # rate at which the source is read
        self._retries = LimitedWarning(SOURCE_RETRYING, log)  # a source may be lost repeatedly
        self._logs_next_frame = True  # the first one, and the first one after a retry that was logged
        self._retry_reason: str | None = None
        self._owner, self._conversation = owner, owner.conversation
        self._media, self._address, self._transport = media, url, transport
        self._unpaused = unpaused
        self._video: LiveSource | None = None  # once the source is open
        self._frame_finished = asyncio.Event()
        # one thread per source, because reading from a camera blocks
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mmduet-source")
        self._task = asyncio.create_task(self._run(), name=f"source of {self._conversation.id}")

    @property
    def running(self) -> bool:
        """Return whether more frames may follow."""
        return not self._task.done()

    @property
    def status(self) -> SourceStatus:
        """Return the state of the source."""
        if not self._unpaused.is_set():
            return SourceStatus(url=self.url, state="paused")
        if self._video is None:
            return SourceStatus(url=self.url, state="connecting")
        if (retry_at := self._video.retry_at) is not None:
            retry_in_s = round(max(retry_at - monotonic(), 0.0), 2)
            return SourceStatus(url=self.url, state="retrying", retry_in_s=retry_in_s, message=self._retry_reason)
        return SourceStatus(url=self.url, state="live")

    def notify_frame_finished(self) -> None:
        """Report that a frame of the session was scored or dropped, so that the next one may be queued."""
        self._frame_finished.set()

    async def stop(self) -> None:
        """Stop reading and report the source as closed on request."""
        if self.running:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._report_closed("asked")

    async def _run(self) -> None:
        try:
            await self._read_source()
        except MmduetError as error:
            self._fail(str(error), error.code)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            SOURCE_FAILED.emit(log, error=error, session=self._conversation.id, source=self.url)
            self._fail(f"{self.url} cannot be read because of a server error; see the server's log", "server")
        else:
            self._report_closed("ended")

    async def _read_source(self) -> None:
        SOURCE_CONNECTING.emit(log, session=self._conversation.id, source=self.url)
        opening = asyncio.ensure_future(
            self._run_in_thread(
                self._media.open_source, self._address, self._owner.owner, self._transport, self._on_retry
            )
        )
        try:
            video = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_when_opened)
            raise
        self._video, self.fps = video, self._conversation.settings.fps
        try:
            await self._read(video.info, video.frames(self.fps), live=video.live)
        finally:
            await asyncio.to_thread(video.close)  # deletes a file, or sends TEARDOWN to a camera: both may block

    def _fail(self, message: str, code: str) -> None:
        if not self._owner_closed:
            self._conversation.fail(message, code)
        self._report_closed("failed", message)

    async def _read(self, info: VideoInfo, frames: Iterator[Frame], *, live: bool) -> None:
        """Push every frame into the session; wait for the session's queue to empty unless the source is live."""
        self._media.check_size(info)
        self._send(server_events.SourceOpened(url=self.url, width=info.width, height=info.height))
        first_pts = self._conversation.next_pts()
        try:
            while (frame := await self._run_in_thread(self._next_frame, frames)) is not None:
                if not live:
                    await self._wait_until_wanted()
                self._push_frame(frame, first_pts, live=live)
        finally:
            await asyncio.to_thread(_close_frames, frames)

    def _next_frame(self, frames: Iterator[Frame]) -> Frame | None:
        """Return the next frame at the model's input size, so that queued frames take no more memory than necessary."""
        frame = next(frames, None)
        return None if frame is None else replace(frame, image=self._media.letterbox(frame.image))

    def _on_retry(self, reason: str, pause_seconds: float) -> None:
        """Log a lost connection; called by the source's thread."""
        self._retry_reason, session = reason, self._conversation.id
        if self._retries.emit(session=session, source=self.url, detail=reason, retry_s=pause_seconds):
            self._logs_next_frame = True

    def _push_frame(self, frame: Frame, first_pts: int, *, live: bool) -> None:
        height, width, _ = frame.image.shape
        image = EncodedImage(ImageFormat.RAW, frame.image.tobytes(), width, height)
        if self._logs_next_frame:
            self._logs_next_frame = False
            SOURCE_LIVE.emit(log, session=self._conversation.id, source=self.url)
        self.frame_count += 1
        self._owner.on_source_frame(live=live)
        pts, paused = first_pts + round(frame.time * 1e6), not self._unpaused.is_set()
        self._conversation.push_source_frame(pts, image, monotonic(), fps=self.fps, paused=paused, live=live)
        self._owner.wake()

    async def _wait_until_wanted(self) -> None:
        """Wait until the queue is empty, the source is not paused, and the rate of the key allows a frame."""
        await self._wait_until_empty()
        while True:
            await self._unpaused.wait()
            await self._owner.limiter.wait_for_frame(self._owner.owner)
            if self._unpaused.is_set():  # also after the wait
                return

    async def _wait_until_empty(self) -> None:
        while self._conversation.waiting_frames > 0:
            self._frame_finished.clear()
            await self._frame_finished.wait()

    def _report_closed(self, reason: server_events.CloseReason, message: str | None = None) -> None:
        self._executor.shutdown(wait=False)
        self._retries.report_suppressed(at_once=True)
        damage = None if self._video is None else SourceDamage(**self._video.damage.to_dict())
        event = server_events.SourceClosed(url=self.url, reason=reason, message=message, damage=damage)
        self._owner.on_source_closed(event)

    async def _run_in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking function in the source's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    @property
    def _owner_closed(self) -> bool:
        return self._conversation.closed is not None

    def _send(self, event: server_events.ServerEvent) -> None:
        if not self._owner_closed:
            self._conversation.emit(event)
            self._owner.wake()


def _close_when_opened(opening: asyncio.Future[LiveSource]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _close_frames(frames: Iterator[Frame]) -> None:
    close: Callable[[], None] | None = getattr(frames, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError):  # the generator is running in its thread; it ends with its next frame
            close()
