"""Reads a video source into a session: a file as fast as its frames are scored or at a speed, a live source in real time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import MmduetError
from mmduet.events import Frame
from mmduet.protocol import server_events
from mmduet.protocol.frames import EncodedImage, ImageFormat
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session_status import SourceStatus
from mmduet.protocol.source_damage import SourceDamage
from mmduet.protocol.source_events import OpenSourceState
from mmduet.redaction import redact
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import SOURCE_CONNECTING, SOURCE_FAILED, SOURCE_LIVE, SOURCE_RETRYING
from mmduet.server.media import MediaLoader
from mmduet.server.source_pace import SourcePace
from mmduet.video import VideoInfo
from mmduet.video.source import LiveSource

log = logging.getLogger(__name__)
T = TypeVar("T")


class SourceOwner(Protocol):
    """What a source is read into: a session with its owner and its limits."""

    @property
    def owner(self) -> str:
        """Return the owner of the session."""
        ...

    @property
    def conversation(self) -> Conversation:
        """Return the conversation that receives frames and events."""
        ...

    async def wait_for_frame(self) -> None:
        """Wait until the limits of the key allow a frame."""

    def on_frame(self, *, live: bool) -> None:
        """Count a frame that was read; ``live`` is False for a file."""

    def encode_thumbnail(self, image: NDArray[np.uint8]) -> str | None:
        """Return the thumbnail of a frame if one should be sent; called by the reader's thread."""
        ...

    def add_thumbnail(self, pts: int, thumbnail: str) -> None:
        """Keep the thumbnail of a frame until it is scored."""

    def reject_speed(self, event_id: str | None) -> None:
        """Report that a live source cannot be read at a speed."""

    def on_closed(self, event: server_events.SourceClosed) -> None:
        """Send the event and forget the source, which delivers nothing more."""

    def wake(self) -> None:
        """Process new frames and send new events."""


class SourceReader:
    """Read one source in a background task, until it ends or ``stop`` is called."""

    def __init__(self, owner: SourceOwner, media: MediaLoader, command: commands.OpenSource, pace: SourcePace) -> None:
        """While ``pace`` is paused, files are not read, and the frames of live sources are dropped."""
        self.url, self.frame_count = redact(command.url), 0
        self.fps: float | None = None  # rate at which the source is read
        self._retries = LimitedWarning(SOURCE_RETRYING, log)  # a source may be lost repeatedly
        self._logs_next_frame = True  # the first one, and the first one after a retry that was logged
        self._retry_reason: str | None = None
        self._owner, self._conversation = owner, owner.conversation
        self._media, self._command, self._pace = media, command, pace
        self._video: LiveSource | None = None  # once the source is open
        self._reported: tuple[OpenSourceState, float | None] | None = None  # state and speed
        self._loop = asyncio.get_running_loop()
        self._frame_finished = asyncio.Event()
        # one thread per source, because reading from a camera blocks
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mmduet-source")
        self._task = asyncio.create_task(self._run(), name=f"source of {self._conversation.id}")

    @property
    def running(self) -> bool:
        """Return whether more frames may follow."""
        return not self._task.done()

    @property
    def is_live(self) -> bool:
        """Return whether the source is open and its frames are lost unless they are read in time."""
        return self._video is not None and self._video.live

    @property
    def status(self) -> SourceStatus:
        """Return the state of the source."""
        state, speed = self._state, self._pace.speed
        retry_at = self._video.retry_at if self._video is not None else None
        if state != "retrying" or retry_at is None:
            return SourceStatus(url=self.url, state=state, speed=speed)
        retry_in_s = round(max(retry_at - monotonic(), 0.0), 2)
        return SourceStatus(url=self.url, state=state, retry_in_s=retry_in_s, message=self._retry_reason, speed=speed)

    @property
    def _state(self) -> OpenSourceState:
        if self._pace.paused:
            return "paused"
        if self._video is None:
            return "connecting"
        return "live" if self._video.retry_at is None else "retrying"

    def report_state(self, *, always: bool = False) -> None:
        """Send an event if the state or the speed has changed; with ``always`` even if it has not."""
        current = (self._state, self._pace.speed)
        if always or current != self._reported:
            self._reported = current
            self._send(server_events.SourceUpdated(**self.status.model_dump()))

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
                self._media.open_source,
                self._command.url,
                self._owner.owner,
                self._command.transport,
                self._on_retry,
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
        """Push every frame into the session, when it is due and the session's queue is empty unless the source is live."""
        self._media.check_size(info)
        self._send(server_events.SourceOpened(url=self.url, width=info.width, height=info.height))
        if live and self._pace.speed is not None:
            self._pace.set_speed(None)
            self._owner.reject_speed(self._command.event_id)
        self.report_state()
        first_pts = self._conversation.next_pts()
        try:
            while (found := await self._run_in_thread(self._next_frame, frames)) is not None:
                frame, thumbnail = found
                if not live:
                    await self._wait_until_due(frame.time)
                pts = first_pts + round(frame.time * 1e6)
                if thumbnail is not None:
                    self._owner.add_thumbnail(pts, thumbnail)
                self._push_frame(frame, pts, live=live)
        finally:
            await asyncio.to_thread(close_frames, frames)

    def _next_frame(self, frames: Iterator[Frame]) -> tuple[Frame, str | None] | None:
        """Return the next frame at the model's input size, and its thumbnail if one should be sent.

        At that size, queued frames take no more memory than necessary.
        """
        frame = next(frames, None)
        if frame is None:
            return None
        image = self._media.letterbox(frame.image)
        return replace(frame, image=image), self._owner.encode_thumbnail(image)

    def _on_retry(self, reason: str, pause_seconds: float) -> None:
        """Log and report a lost connection; called by the source's thread."""
        self._retry_reason, session = reason, self._conversation.id
        if self._retries.emit(session=session, source=self.url, detail=reason, retry_s=pause_seconds):
            self._logs_next_frame = True
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the server stops
            self._loop.call_soon_threadsafe(self._report_retry)

    def _report_retry(self) -> None:
        if self.running and self._state == "retrying":
            self.report_state(always=True)

    def _push_frame(self, frame: Frame, pts: int, *, live: bool) -> None:
        height, width, _ = frame.image.shape
        image = EncodedImage(ImageFormat.RAW, frame.image.tobytes(), width, height)
        if self._logs_next_frame:
            self._logs_next_frame = False
            SOURCE_LIVE.emit(log, session=self._conversation.id, source=self.url)
        self.frame_count += 1
        self._owner.on_frame(live=live)
        self.report_state()  # live again after a retry
        self._conversation.push_source_frame(pts, image, monotonic(), fps=self.fps, paused=self._pace.paused, live=live)
        self._owner.wake()

    async def _wait_until_due(self, time: float) -> None:
        """Wait until the queue is empty, the frame at ``time`` seconds is due, and the rate of the key allows a frame."""
        while True:
            await self._wait_until_empty()
            await self._pace.wait_until_due(time)
            await self._owner.wait_for_frame()
            if self._conversation.waiting_frames == 0 and self._pace.is_due(time):  # also after the last wait
                self._pace.on_frame(time)
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
        self._owner.on_closed(event)

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


def close_frames(frames: Iterator[Frame]) -> None:
    """End an iteration over frames, if it is a generator."""
    close: Callable[[], None] | None = getattr(frames, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError):  # the generator is running in its thread; it ends with its next frame
            close()
