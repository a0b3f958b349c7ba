"""The engine's thread as an event loop sees it: requests are awaited, outputs arrive as calls in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from mmduet.engine import Engine, Session
from mmduet.engine.session import Picture
from mmduet.engine.thread import EngineThread
from mmduet.errors import VideoError
from mmduet.events import Frame, Output
from mmduet.options import SessionOptions
from mmduet.protocol.frames import Kind
from mmduet.protocol.session.commands import Watch
from mmduet.video.still import decode_still

T = TypeVar("T")


class EngineRoom:
    """One engine, and a few threads that make frames ready for it."""

    def __init__(self, thread: EngineThread, most_pixels: int, decoders: int = 2) -> None:
        self.thread = thread
        self._most_pixels = most_pixels
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="mmduet-decode")

    @property
    def engine(self) -> Engine:
        """For what needs no thread: ``slot_bytes``, the model's description."""
        return self.thread.engine

    async def ask(self, request: Callable[[Engine], T]) -> T:
        """Have ``request`` carried out between two steps; it is, even where whoever asked stops waiting."""
        return await asyncio.shield(asyncio.wrap_future(self.thread.submit(request)))

    async def open(self, options: SessionOptions, tell: Callable[[Output | None], None]) -> Session:
        """A session whose outputs are handed to ``tell`` in this loop, in order; None when the engine has stopped."""
        loop = asyncio.get_running_loop()

        def listener(output: Output | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, output)

        return await self.ask(self.thread.listen(options, listener))

    async def forget(self, session: Session) -> None:
        """Drop a session."""
        await self.ask(self.thread.forget(session))

    async def prepared(self, watch: Watch) -> Picture:
        """The frame as the tower takes it. Raises ``VideoError`` where there is no picture."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, self._prepare, watch)

    async def prepare(self, frame: Frame) -> Picture:
        """A decoded frame as the tower takes it."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, self.engine.prepare, frame)

    def close(self) -> None:
        """Let the decoding threads go."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, watch: Watch) -> Picture:
        picture = watch.picture
        if picture.kind is Kind.RAW:
            if picture.width * picture.height > self._most_pixels:
                raise VideoError(
                    f"a picture of {picture.width}x{picture.height} is more than {self._most_pixels} pixels"
                )
            image = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
        else:
            image = decode_still(picture.data, self._most_pixels)
        return self.engine.prepare(Frame(watch.index, watch.time, image))
