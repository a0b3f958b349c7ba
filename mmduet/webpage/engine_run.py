"""Runs a task over a video on the server's engine, within the limits of its visitor and behind live sessions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

from mmduet.engine import Engine, Session
from mmduet.engine.defaults import model_defaults, task_options
from mmduet.errors import MmduetError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Scores, SessionFailed, StreamEnded
from mmduet.pipelines.task_run import TaskRun
from mmduet.server.session_load import SessionLoad
from mmduet.server.session_manager import SessionManager
from mmduet.tasks.streaming import merge_by_time

MAX_FRAMES_IN_FLIGHT = 2
"""Frames of one video in the engine at a time: a step takes one, the next one is ready for the step after."""


class EngineRun:
    """One task on one video: call ``reserve``, ``run``, ``close`` and ``release``.

    ``on_time`` is called with the time of each frame that has been scored.
    """

    def __init__(
        self, manager: SessionManager, owner: str, task_run: TaskRun[Any], on_time: Callable[[float], None]
    ) -> None:
        self._manager, self._owner, self._task_run, self._on_time = manager, owner, task_run, on_time
        self._id = f"result_{secrets.token_hex(8)}"
        recommended = manager.engine.model_config.recommended
        self._config = task_run.configure(manager.model_name, model_defaults(recommended))
        self._options = task_options(recommended, self._config)
        self._limiter = manager.limiters.of(owner)
        self._outputs: asyncio.Queue[Output | None] = asyncio.Queue()
        self._load: SessionLoad | None = None
        self._session: Session | None = None
        self._frames_in_flight = 0
        self.events: list[Output] = []
        self.frame_count = 0  # scored

    def reserve(self) -> None:
        """Reserve the memory of a session. Raises ``CapacityError`` while the engine or the memory is in use.

        It is a ``RateLimitError`` if the visitor or its key has too many sessions.
        """
        self._manager.check_accepting(None)
        settings = replace(
            self._manager.default_settings(), options=self._options, fps=self._config.fps, max_frame_age=None
        )
        self._manager.admission.check_load(settings)
        self._load = self._manager.admission.reserve(self._id, settings, self._owner)
        self._load.reads_file = True

    async def run(self) -> None:
        """Score the frames of the video; ``events`` has what the session emits. Raises ``MmduetError``."""
        engine = self._manager.engine
        self._session = await engine.open_session(self._options, self._outputs.put_nowait, self._limiter.take_token)
        reader = ThreadPoolExecutor(1, thread_name_prefix="mmduet-result")
        items = merge_by_time(self._task_run.frames(), self._config.queries)
        try:
            while (
                item := await asyncio.get_running_loop().run_in_executor(reader, self._next_item, items)
            ) is not None:
                await self._push(item)
            await self._call(lambda engine, session: engine.end(session))
            while not isinstance(await self._next_output(), StreamEnded):
                pass
        finally:
            reader.submit(_close, items)  # after the call that may still be running
            reader.shutdown(wait=False)

    async def close(self) -> None:
        """Close the engine's session."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(MmduetError):
                await self._manager.engine.close_session(session)

    def forget(self) -> None:
        """Remove the outputs and what ``run`` has used, after ``close``."""
        self.events = []
        del self._task_run, self._on_time

    def release(self) -> None:
        """Release the memory of the session, once it is closed; a second call does nothing."""
        self._manager.admission.release(self._id)

    def _next_item(self, items: Iterator[Frame | Query | Context]) -> Frame | Query | Context | None:
        """Return the next frame, at the model's input size, or turn. Runs in the reader's thread."""
        item = next(items, None)
        return replace(item, image=self._manager.media.letterbox(item.image)) if isinstance(item, Frame) else item

    async def _push(self, item: Frame | Query | Context) -> None:
        if not isinstance(item, Frame):
            await self._call(lambda engine, session: engine.push(session, item))
            return
        await self._limiter.wait_for_frame(self._owner)
        self._limiter.take_frame(self._owner)
        frame = await self._manager.engine.prepare(item)
        assert self._load is not None
        self._load.on_frame(monotonic())
        await self._call(lambda engine, session: engine.push(session, frame))
        self._frames_in_flight += 1
        while self._frames_in_flight >= MAX_FRAMES_IN_FLIGHT:
            await self._next_output()

    async def _call(self, request: Callable[[Engine, Session], None]) -> None:
        """Run a request in the engine's thread. Raises the error that ended the session, if it has ended."""
        session = self._session
        assert session is not None
        try:
            await self._manager.engine.call(lambda engine: request(engine, session))
        except SessionClosedError:
            while True:  # the engine has delivered the reason before
                await self._next_output()

    async def _next_output(self) -> Output:
        """Wait for the next output and return it. Raises the error that ended the session."""
        output = await self._outputs.get()
        if output is None:
            raise self._manager.engine.stopped_error()
        if isinstance(output, SessionFailed):
            raise output.as_error()
        self.events.append(output)
        if isinstance(output, Scores):
            self._frames_in_flight -= 1
            self.frame_count += 1
            self._on_time(output.time)
        return output


def _close(items: Iterator[Frame | Query | Context]) -> None:
    close: Callable[[], None] | None = getattr(items, "close", None)
    if close is not None:
        close()
