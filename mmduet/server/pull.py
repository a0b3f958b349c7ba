"""Pulls a video's frames into a session, a file's no faster than they are watched; fetching is ``media``'s business."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from mmduet.errors import MmduetError
from mmduet.events import Frame
from mmduet.protocol import server_events as told
from mmduet.protocol.frames import Kind, Picture
from mmduet.server.cameras import is_camera
from mmduet.server.media import Media, look
from mmduet.video import VideoInfo, open_frames
from mmduet.video.rtsp import Transport, shown
from mmduet.video.source import LiveSource

if TYPE_CHECKING:
    from mmduet.server.live_session import LiveSession


log = logging.getLogger(__name__)
T = TypeVar("T")


class Pull:
    """One source that is being pulled; it ends by itself, or by ``stop``."""

    def __init__(self, session: LiveSession, media: Media, url: str, transport: Transport = "tcp") -> None:
        self.url = shown(url)
        self._session, self._media, self._target, self._transport = session, media, url, transport
        self._room = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mmduet-pull")  # its own: cameras wait in it
        self._task = asyncio.create_task(self._run(), name=f"pull for {session.id}")

    @property
    def running(self) -> bool:
        """Whether more frames may come."""
        return not self._task.done()

    def watched(self) -> None:
        """A frame of the session has come to its end: there is room for another."""
        self._room.set()

    async def stop(self) -> None:
        """No more frames; told as asked for."""
        if self.running:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._tell_end("asked")

    async def _run(self) -> None:
        try:
            if is_camera(self._target):
                await self._stream()
            else:
                async with self._media.file(self._target) as path:
                    info = await self._there(look, path)
                    await self._read(info, open_frames(path, self._session.conversation.settings.fps), live=False)
        except MmduetError as error:
            self._fail(str(error), error.code)
        except Exception:
            log.exception("session %s: pulling failed", self._session.id)
            self._fail(f"{self.url} cannot be pulled; the server's log says why", "server")
        else:
            self._tell_end("ended")

    async def _stream(self) -> None:
        opening = asyncio.ensure_future(self._there(self._media.camera, self._target, self._transport))
        try:
            video = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        try:
            await self._read(video.info, video.frames(self._session.conversation.settings.fps), live=video.live)
        finally:
            await asyncio.to_thread(video.close)  # a camera is told goodbye

    def _fail(self, message: str, code: str) -> None:
        if not self._session.closed:
            self._session.conversation.narrator.error(message, code)
        self._tell_end("failed", message)

    async def _read(self, info: VideoInfo, frames: Iterator[Frame], *, live: bool) -> None:
        """Put every frame of a file into the session as there is room; what is live waits for nobody."""
        self._media.check_size(info)
        self._tell(told.SourceOpened(url=self.url, width=info.width, height=info.height))
        first = self._session.conversation.next_pts()
        try:
            while (frame := await self._there(self._next, frames)) is not None:
                if not live:
                    await self._wait_for_room()
                self._put(frame, first)
        finally:
            await asyncio.to_thread(_close, frames)

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        """The next frame at the size that the model sees, so that what waits for it is no larger than need be."""
        frame = next(frames, None)
        return None if frame is None else replace(frame, image=self._media.fitted(frame.image))

    def _put(self, frame: Frame, first: int) -> None:
        height, width, _ = frame.image.shape
        picture = Picture(Kind.RAW, frame.image.tobytes(), width, height)
        self._session.counted_frame()
        self._session.conversation.pulled(first + round(frame.time * 1e6), picture, monotonic())
        self._session.work()

    async def _wait_for_room(self) -> None:
        while self._session.conversation.waiting_frames > 0:
            self._room.clear()
            await self._room.wait()

    def _tell_end(self, reason: told.CloseReason, message: str | None = None) -> None:
        self._thread.shutdown(wait=False)
        self._session.source_ended(told.SourceClosed(url=self.url, reason=reason, message=message))

    async def _there(self, work: Callable[..., T], *arguments: Any) -> T:
        """Have it done in the source's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _tell(self, event: told.ServerEvent) -> None:
        if not self._session.closed:
            self._session.conversation.log.append(event)
            self._session.work()


def _close_unwanted(opening: asyncio.Future[LiveSource]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _close(frames: Iterator[Frame]) -> None:
    close: Callable[[], None] | None = getattr(frames, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError):  # still in its thread: it ends with its next frame
            close()
