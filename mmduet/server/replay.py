"""Shows the engine again what a session had seen on a server that is no more, and keeps quiet about what it says to that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from mmduet.engine.session import Picture
from mmduet.errors import VideoError
from mmduet.events import Context, ContextRead, Output, Query, QueryRead, Said, Scores, SessionFailed
from mmduet.options import SessionOptions
from mmduet.protocol.session.commands import ReadTurn, Watch
from mmduet.protocol.session.recovery import Seen
from mmduet.server.engine_room import EngineRoom


def silent(options: SessionOptions) -> SessionOptions:
    """The same session, which only watches."""
    return replace(options, speak=replace(options.speak, policy="never", at_end=False))


class Replay:
    """What is to be seen again, and how much of it has been. ``time`` is where it ends, in seconds of the stream."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self.time = 0.0
        self._seen = seen
        self._frames = {item.index for item in seen if isinstance(item, Watch)}
        self._turns = sum(isinstance(item, ReadTurn) for item in seen)
        self._over = asyncio.Event()

    @property
    def pending(self) -> bool:
        """Whether there is anything to be seen again."""
        return bool(self._seen)

    async def items(self, room: EngineRoom) -> AsyncIterator[Picture | Query | Context | Said]:
        """What the engine is to be given, in order. A frame that could be decoded once can be decoded again."""
        for item in self._seen:
            if isinstance(item, Watch):
                self.time = item.time
                try:
                    yield await room.prepared(item)
                except VideoError:
                    self._frames.discard(item.index)
            elif isinstance(item, ReadTurn):
                system = item.role == "system"
                yield Context(item.text, self.time, item.keep) if system else Query(item.text, self.time)
            else:
                yield Said(item.text, self.time)
        self._seen = ()
        self._check()

    def swallows(self, output: Output | None) -> bool:
        """Whether it belongs to what is seen again, so that nobody is told."""
        if isinstance(output, Scores) and output.frame in self._frames:
            self._frames.discard(output.frame)
            self._check()
            return True
        if isinstance(output, QueryRead | ContextRead) and self._turns:
            self._turns -= 1
            return True
        if output is None or isinstance(output, SessionFailed):
            self._over.set()
        return False

    async def watched(self) -> None:
        """Until every frame has been seen again, or the engine has failed."""
        await self._over.wait()

    def _check(self) -> None:
        if not self._frames and not self._seen:
            self._over.set()
