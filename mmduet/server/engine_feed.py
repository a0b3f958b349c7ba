"""Passes the frames, turns and other commands of one session to the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

from mmduet.engine import Engine, Session
from mmduet.errors import MmduetError, VideoError
from mmduet.events import Context, Output, Query
from mmduet.options import SessionOptions
from mmduet.protocol.session import commands
from mmduet.protocol.session.commands import MAX_IN_FLIGHT
from mmduet.protocol.session.conversation import Conversation
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.log_events import FRAME_NOT_DECODED
from mmduet.server.replay import Replay, scoring_only
from mmduet.server.session_load import SessionLoad

log = logging.getLogger(__name__)
IDLE_CHECK_SECONDS = 0.01


class EngineFeed:
    """The engine's side of a conversation. Its engine session opens with the first command, after the client's settings."""

    def __init__(
        self,
        conversation: Conversation,
        engine: AsyncEngine,
        load: SessionLoad,
        on_output: Callable[[Output | None], None],
        take_token: Callable[[], bool],
    ) -> None:
        """``on_output`` and ``take_token`` are called as ``AsyncEngine.open_session`` describes."""
        self._conversation, self._engine, self._load = conversation, engine, load
        self._on_output, self._take_token = on_output, take_token
        self._in_flight: dict[int, float] = {}  # when the frames that the engine has not scored yet left the queue
        self._latest_time = 0.0  # stream time of the last frame handed to the engine, in seconds
        self._session: Session | None = None

    @property
    def frames_in_flight(self) -> int:
        """Return the number of frames with the engine; as many as possible if no more should be handed over.

        On a slow engine only one is there at a time: the next one is chosen later and therefore newer.
        """
        return MAX_IN_FLIGHT if self._in_flight and self._load.is_slow else len(self._in_flight)

    def on_scored(self, frame: int, now: float) -> None:
        """Record that the engine has scored a frame."""
        self._load.on_scored(now, now - self._in_flight.pop(frame, now))

    async def replay(self, replay: Replay) -> None:
        """Restore the engine's context from the history without emitting anything."""
        options = self._conversation.settings.options
        session = await self._open(scoring_only(options))
        async for item in replay.items(self._engine):
            await self._engine.call(lambda engine, item=item: engine.push(session, item))  # type: ignore[misc]
        self._latest_time = replay.time
        await replay.wait_until_scored()
        if not session.closed:
            await self._engine.call(lambda engine: replay.restore_policy(engine, session, options.speak))

    async def execute(self, command: commands.Command) -> None:
        """Execute a command on the engine. Commands about sources are not for it."""
        session = await self._get_session()
        match command:
            case commands.ScoreFrame():
                await self._score_frame(session, command)
            case commands.AppendTurn():
                await self._append_turn(session, command)
            case commands.SpeakNow(recovered=recovered):
                await self._engine.call(lambda engine: engine.speak_now(session, suppress_repeats=recovered))
            case commands.CancelReply(reply=reply):
                await self._engine.call(lambda engine: engine.cancel(session, reply))
            case commands.UpdatePolicy(speak=speak):
                await self._engine.call(lambda engine: engine.update_policy(session, speak))
            case commands.End():
                await self._engine.call(lambda engine: engine.end(session))

    async def wait_until_idle(self) -> None:
        """Wait for the frames and replies that the engine is working on."""
        with contextlib.suppress(MmduetError):
            while self._session is not None and await self._engine.call(self._is_ready):
                await asyncio.sleep(IDLE_CHECK_SECONDS)

    async def close(self) -> None:
        """Release the engine's memory."""
        if self._session is not None:
            session, self._session = self._session, None  # drop our reference to its slot
            with contextlib.suppress(MmduetError):
                await self._engine.close_session(session)

    def _is_ready(self, _: Engine) -> bool:
        return self._session is not None and self._session.ready

    async def _score_frame(self, session: Session, command: commands.ScoreFrame) -> None:
        taken_at = monotonic()
        try:
            frame = await self._engine.decode(command)
        except VideoError as error:
            FRAME_NOT_DECODED.emit(log, session=self._conversation.id, frame=command.index, detail=str(error))
            if self._conversation.closed is None:
                self._conversation.drop_frame(command.index, "decode_error", monotonic())
            return
        if self._conversation.closed is not None:
            return
        self._in_flight[command.index] = taken_at
        self._latest_time = command.time
        await self._engine.call(lambda engine: engine.push(session, frame))

    async def _append_turn(self, session: Session, command: commands.AppendTurn) -> None:
        time, is_context = self._latest_time, command.role == "system"
        turn = Context(command.text, time, command.keep) if is_context else Query(command.text, time)
        try:
            await self._engine.call(lambda engine: engine.push(session, turn))
        except MmduetError as error:
            if session.closed:
                raise
            self._conversation.reject_turn(command.number, error, error.code)

    async def _get_session(self) -> Session:
        return self._session or await self._open(self._conversation.settings.options)

    async def _open(self, options: SessionOptions) -> Session:
        self._session = await self._engine.open_session(options, self._on_output, self._take_token)
        return self._session
