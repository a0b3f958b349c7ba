"""Restores a session's context in the engine after a restart by replaying its history without replying to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from mmduet.engine import Engine, Session
from mmduet.engine.session import PreparedFrame
from mmduet.errors import VideoError
from mmduet.events import AssistantTurn, Context, ContextRead, Output, Query, QueryRead, Scores, SessionFailed
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.protocol.session.commands import AppendTurn, ScoreFrame
from mmduet.protocol.session.recovery import PastReplies, ReplayItem
from mmduet.server.async_engine import AsyncEngine


def scoring_only(options: SessionOptions) -> SessionOptions:
    """Return the options with a policy that never speaks."""
    return replace(options, speak=replace(options.speak, policy="never", at_end=False))


class Replay:
    """The history to replay and the outputs that belong to it.

    ``time`` is the stream time of the last replayed frame, in seconds.
    """

    def __init__(self, history: Sequence[ReplayItem] = (), past: PastReplies | None = None) -> None:
        """``past`` is what the policy remembers."""
        self.time = 0.0
        self._past = past or PastReplies()
        self._history = history
        self._pending_frames = {item.index for item in history if isinstance(item, ScoreFrame)}
        self._pending_turns = sum(isinstance(item, AppendTurn) for item in history)
        self._done = asyncio.Event()

    @property
    def pending(self) -> bool:
        """Return whether there is anything to replay."""
        return bool(self._history)

    async def items(self, engine: AsyncEngine) -> AsyncIterator[PreparedFrame | Query | Context | AssistantTurn]:
        """Yield the engine's inputs in order. A frame that does not decode is skipped."""
        for item in self._history:
            if isinstance(item, ScoreFrame):
                self.time = item.time
                try:
                    yield await engine.decode(item)
                except VideoError:
                    self._pending_frames.discard(item.index)
            elif isinstance(item, AppendTurn):
                system = item.role == "system"
                yield Context(item.text, self.time, item.keep) if system else Query(item.text, self.time)
            else:
                yield AssistantTurn(item.text, self.time)
        self._history = ()
        self._check_done()

    def consumes(self, output: Output | None) -> bool:
        """Return whether ``output`` belongs to the replay, so that the client must not receive it."""
        if isinstance(output, Scores) and output.frame in self._pending_frames:
            self._pending_frames.discard(output.frame)
            self._check_done()
            return True
        if isinstance(output, QueryRead | ContextRead) and self._pending_turns:
            self._pending_turns -= 1
            return True
        if output is None or isinstance(output, SessionFailed):
            self._done.set()
        return False

    async def wait_until_scored(self) -> None:
        """Wait until every replayed frame has been scored or the session has failed."""
        await self._done.wait()

    def restore_policy(self, engine: Engine, session: Session, speak: SpeakOptions) -> None:
        """Let the session speak again from the next frame on, with what the policy remembers; run in the engine's thread."""
        engine.update_policy(session, speak)
        engine.restore_replies(session, self._past.texts, self._past.triggered_at)

    def _check_done(self) -> None:
        if not self._pending_frames and not self._history:
            self._done.set()
