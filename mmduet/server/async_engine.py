"""An asyncio interface to the engine's thread: requests are awaited, and outputs are delivered in the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from mmduet.engine import Engine, Session
from mmduet.engine.session import PreparedFrame
from mmduet.engine.thread import EngineThread
from mmduet.engine.warm_up import warm_up
from mmduet.errors import EngineError, VideoError
from mmduet.events import Frame, Output
from mmduet.model import DuetConfig
from mmduet.model.tokenizer import Tokenizer
from mmduet.options import SessionOptions
from mmduet.protocol.frames import ImageFormat
from mmduet.protocol.session.commands import ScoreFrame
from mmduet.server.log_events import ENGINE_FAILED
from mmduet.video.image import decode_image

log = logging.getLogger(__name__)
T = TypeVar("T")


class AsyncEngine:
    """One engine thread and a pool of threads that decode frames for it."""

    def __init__(self, thread: EngineThread, max_pixels: int, decode_threads: int = 2) -> None:
        self._thread = thread
        self._max_pixels = max_pixels
        self._failure_logged = False
        self._decode_pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="mmduet-decode")

    @property
    def alive(self) -> bool:
        """Return whether the engine's thread accepts requests."""
        return self._thread.alive

    @property
    def busy(self) -> bool:
        """Return whether the engine has work to do in its next step."""
        return self._thread.engine.busy

    @property
    def model_config(self) -> DuetConfig:
        """Return the model's description."""
        return self._thread.engine.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer."""
        return self._thread.engine.model.tokenizer

    def slot_tokens(self, options: SessionOptions) -> int:
        """Return the context of a session with these options, in tokens."""
        return self._thread.engine.slot_tokens(options)

    def check(self, options: SessionOptions) -> None:
        """Raise the error that opening a session with these options would raise."""
        self._thread.engine.check(options)

    def slot_bytes(self, options: SessionOptions) -> int:
        """Return the KV memory of a session with these options, in bytes."""
        return self._thread.engine.slot_bytes(options)

    @property
    def kv_bytes(self) -> int:
        """Return the memory for keys and values of all sessions, in bytes."""
        return self._thread.engine.kv_bytes

    def warm_up(self) -> list[tuple[float, int]]:
        """Run the model and return what its steps cost, see ``warm_up``. Call it before the engine's thread is started."""
        return warm_up(self._thread.engine)

    async def call(self, request: Callable[[Engine], T]) -> T:
        """Run ``request`` in the engine's thread between two steps and return its result.

        It runs even if the caller is cancelled while waiting. Raises ``EngineError`` if the engine has stopped.
        """
        try:
            return await asyncio.shield(asyncio.wrap_future(self._thread.submit(request)))
        except EngineError as error:
            if self.alive:
                raise
            raise self.stopped_error() from error

    def stopped_error(self) -> EngineError:
        """Return the error of all requests after the engine has stopped. If it has failed, log the reason once."""
        if not self._failure_logged:
            self._failure_logged = True
            try:
                self._thread.raise_failure()
            except EngineError as error:
                ENGINE_FAILED.emit(log, error=error.__cause__)
        return EngineError("the engine has stopped; restart the server")

    async def open_session(
        self, options: SessionOptions, on_output: Callable[[Output | None], None], take_token: Callable[[], bool]
    ) -> Session:
        """Open a session and call ``on_output`` in this event loop with its outputs, in order.

        A final None means that the engine has stopped. ``take_token`` is called in the engine's thread, see ``listen`` there.
        """
        loop = asyncio.get_running_loop()

        def listener(output: Output | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(on_output, output)

        return await self.call(self._thread.listen(options, listener, take_token))

    async def close_session(self, session: Session) -> None:
        """Close a session and release its slot."""
        await self.call(self._thread.close_session(session))

    async def decode(self, command: ScoreFrame) -> PreparedFrame:
        """Decode a received frame and return it as the model's input. Raises ``VideoError`` for an invalid image."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decode_pool, self._decode, command)

    async def prepare(self, frame: Frame) -> PreparedFrame:
        """Return a decoded frame as the model's input."""
        return await asyncio.get_running_loop().run_in_executor(self._decode_pool, self._thread.engine.prepare, frame)

    def close(self) -> None:
        """Stop the decoding threads."""
        self._decode_pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, command: ScoreFrame) -> PreparedFrame:
        encoded = command.image
        if encoded.format is ImageFormat.RAW:
            if encoded.width * encoded.height > self._max_pixels:
                raise VideoError(
                    f"the frame is {encoded.width}x{encoded.height}, more than {self._max_pixels} pixels; "
                    "send a smaller one"
                )
            image = np.frombuffer(encoded.data, np.uint8).reshape(encoded.height, encoded.width, 3)
        else:
            image = decode_image(encoded.data, self._max_pixels)
        return self._thread.engine.prepare(Frame(command.index, command.time, image))
