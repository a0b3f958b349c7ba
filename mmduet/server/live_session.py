"""One session on the server: its conversation, the task that carries its commands to the engine, and whoever reads it.

It outlives its sockets. Everything here happens in the event loop; only the engine room has threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from mmduet.engine import Session
from mmduet.errors import MmduetError, VideoError
from mmduet.events import Context, Output, Query, Scores, StreamEnded
from mmduet.protocol import server_events as told
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.recovery import Seen
from mmduet.server.engine_room import EngineRoom
from mmduet.server.journal import Journal
from mmduet.server.media import Media
from mmduet.server.metrics import Metrics
from mmduet.server.pull import Pull
from mmduet.server.replay import Replay, silent

log = logging.getLogger(__name__)


@dataclass
class Reader:
    """Whoever reads a session's log: a socket, or an event stream. ``closing`` is why it is to be closed."""

    number: int
    cursor: int
    closing: tuple[int, str] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)


class LiveSession:
    """A session that is running."""

    def __init__(
        self,
        conversation: Conversation,
        token: str,
        owner: str,
        room: EngineRoom,
        media: Media,
        metrics: Metrics,
        over: Callable[[LiveSession], None],
        journal: Journal | None = None,
        seen: Sequence[Seen] = (),
    ) -> None:
        """``seen`` is what the model had seen of it on a server that is no more."""
        self.conversation, self.token, self.owner = conversation, token, owner
        self.done_with = False  # nobody will come for its last events
        self.reader: Reader | None = None
        self.heard = self.left = monotonic()  # when a client last sent something, and when the last one went
        self._room, self._media, self._metrics, self._over = room, media, metrics, over
        self._journal, self._written = journal, -1  # messages of which is written down that they were consumed
        self._replay = Replay(seen)
        self._source: Pull | None = None
        self._readers = 0
        self._in_flight = 0  # frames with the engine
        self._time = 0.0  # of the last frame that was handed to the engine
        self._session: Session | None = None
        self._work = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"session {self.id}")

    @property
    def id(self) -> str:
        """Its name on the wire."""
        return self.conversation.id

    @property
    def closed(self) -> bool:
        """Whether its last event has been told."""
        return self.conversation.narrator.closed is not None

    @property
    def speaking(self) -> bool:
        """Whether a reply is being written."""
        return self.conversation.narrator.speaking is not None

    @property
    def pulling(self) -> bool:
        """Whether frames come from a source, so that no client need be there."""
        return self._source is not None

    def _note_source(self) -> None:
        if self._journal is not None:
            self._journal.scribe.source(self._source.url if self._source is not None else None)

    # clients

    def receive(self, message: str | bytes) -> None:
        """One message of the client's. Raises ``ProtocolAbuse``."""
        self.heard = monotonic()
        counts = self.conversation.narrator.ledger.counts
        before = counts["received"]
        self.conversation.receive(message, self.heard)
        self._metrics.frames_received.inc(counts["received"] - before)
        self._work.set()
        self._publish()

    def attach(self, after: int) -> Reader:
        """Read on after event ``after``; whoever was reading is told that it has been replaced."""
        if self.reader is not None:
            self.conversation.log.append(told.SessionReplaced(session_id=self.id), only=self.reader.number)
            self._publish()
            self._dismiss(self.reader, 4001, "replaced")
        self._readers += 1
        self.heard = monotonic()
        self.reader = Reader(self._readers, after)
        return self.reader

    def detach(self, reader: Reader) -> None:
        """A reader has gone."""
        if self.reader is reader:
            self.reader, self.left = None, monotonic()

    def tell(self, event: told.ServerEvent) -> None:
        """Something of the server's own."""
        only = self.reader.number if self.reader is not None else 0
        self.conversation.log.append(event, only=only)
        self._publish()

    def dismiss(self, code: int, reason: str) -> None:
        """Have whoever reads closed, when it has read what there is."""
        if self.reader is not None:
            self._dismiss(self.reader, code, reason)

    def _dismiss(self, reader: Reader, code: int, reason: str) -> None:
        reader.closing = reader.closing or (code, reason)
        reader.news.set()

    def work(self) -> None:
        """There is something to do, or to tell."""
        self._work.set()
        self._publish()

    def _publish(self) -> None:
        """Write down what has happened, and only then have it read."""
        journal, consumed = self._journal, self.conversation.consumed
        if journal is not None and not (journal.scribe.idle and consumed == self._written):
            self._written = consumed
            journal.commit(self.conversation.state.text(), self.conversation.log)
        if self.reader is not None:
            self.reader.news.set()

    # the end

    def close(self, reason: str) -> None:
        """End it here."""
        self.conversation.close(reason, monotonic())
        self._publish()
        self._work.set()

    def suspend(self) -> None:
        """Stop here, to go on with another server."""
        if self._journal is not None:
            self._journal.close()
        self._journal = None
        self._task.cancel()

    def forget(self) -> None:
        """Nobody will come back for it."""
        if self._journal is not None:
            self._journal.remove()

    async def _drop(self) -> None:
        """Give the engine's memory back."""
        try:
            if self._source is not None:
                await self._source.stop()
            if self._session is not None:
                session, self._session = self._session, None  # its slot must not outlive it here
                with contextlib.suppress(MmduetError):
                    await self._room.forget(session)
        finally:
            self._over(self)

    # towards the engine

    async def _run(self) -> None:
        try:
            await self._rebuild()
            while not self.closed:
                command = self.conversation.take(self._in_flight)
                if command is None:
                    self._work.clear()
                    await self._work.wait()
                else:
                    await self._carry_out(command)
                    self._publish()
        except MmduetError as error:
            self._fail(error)
        except Exception:
            log.exception("session %s failed", self.id)
            self._fail(MmduetError("the server failed; connect anew"))
        finally:
            await self._drop()

    async def _rebuild(self) -> None:
        """Show the engine what the session had seen elsewhere, without a word."""
        if self.closed or not self._replay.pending:
            return
        options = self.conversation.settings.options
        session = self._session = await self._room.open(silent(options), self._heard)
        async for item in self._replay.items(self._room):
            await self._room.ask(lambda engine, item=item: engine.push(session, item))  # type: ignore[misc]
        self._time = self._replay.time
        await self._replay.watched()
        if not session.closed:
            await self._room.ask(lambda engine: engine.revise(session, options.speak))

    def _fail(self, error: MmduetError) -> None:
        if self.closed:
            return
        self.conversation.narrator.error(str(error), error.code, server=True)
        self.close("failed")

    async def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.Watch():
                await self._watch(command)
            case commands.ReadTurn():
                await self._read(command)
            case commands.OpenSource():
                self._pull(command)
            case commands.CloseSource():
                await self._stop_pulling()
            case _:
                await self._plainly(command)

    async def _plainly(self, command: commands.Command) -> None:
        session = await self._opened()
        match command:
            case commands.SpeakNow():
                await self._room.ask(lambda engine: engine.speak_now(session))
            case commands.Cancel(reply=reply):
                await self._room.ask(lambda engine: engine.cancel(session, reply))
            case commands.Revise(speak=speak):
                await self._room.ask(lambda engine: engine.revise(session, speak))
            case commands.End():
                if self._source is not None:
                    await self._source.stop()
                await self._room.ask(lambda engine: engine.end(session))

    def _pull(self, wanted: commands.OpenSource) -> None:
        if self._source is not None:
            self.conversation.narrator.error(f"{self._source.url} is being pulled; close it first", "source_is_open")
            return
        self._source = Pull(self, self._media, wanted.url, wanted.transport)
        self._note_source()

    async def _stop_pulling(self) -> None:
        if self._source is None:
            self.conversation.narrator.error("no source is open; there is nothing to close", "no_source")
            return
        await self._source.stop()

    def counted_frame(self) -> None:
        """A frame has come from the source."""
        self._metrics.frames_received.inc()

    def source_ended(self, event: told.SourceClosed) -> None:
        """No more frames come from the source, as is told."""
        self._source = None
        self._note_source()
        if not self.closed:
            self.conversation.log.append(event)
        self.heard = self.left = monotonic()  # nobody had to be there until now
        self.work()
        if self.conversation.ends_with_source and not self.conversation.ended:
            self.receive('{"type": "input_frame.end"}')

    async def _watch(self, command: commands.Watch) -> None:
        session = await self._opened()
        try:
            picture = await self._room.prepared(command)
        except VideoError as error:
            log.debug("session %s: frame %d: %s", self.id, command.index, error)
            if not self.closed:
                self.conversation.narrator.dropped(command.index, "decode_error", monotonic())
            self._make_room()
            return
        if self.closed:
            return
        self._in_flight += 1
        self._time = command.time
        await self._room.ask(lambda engine: engine.push(session, picture))

    async def _read(self, command: commands.ReadTurn) -> None:
        session = await self._opened()
        kept = command.role == "system"
        turn = Context(command.text, self._time, command.keep) if kept else Query(command.text, self._time)
        try:
            await self._room.ask(lambda engine: engine.push(session, turn))
        except MmduetError as error:
            if session.closed:
                raise
            self.conversation.narrator.refused(command.number, error, error.code)

    async def _opened(self) -> Session:
        if self._session is None:
            self._session = await self._room.open(self.conversation.settings.options, self._heard)
        return self._session

    # from the engine

    def _heard(self, output: Output | None) -> None:
        """In the loop, for each output in order."""
        if self._replay.swallows(output):
            return
        if output is None:
            self._fail(MmduetError("the engine has stopped; connect anew"))
            return
        now = monotonic()
        if isinstance(output, Scores):
            self._in_flight -= 1
            if (frame := self.conversation.narrator.ledger.find(output.frame)) is not None:
                self._metrics.scored(now - frame.came, output.speak)
        if not self.closed:
            self.conversation.narrator.tell(output, now)
        if isinstance(output, StreamEnded | Scores) or self.closed:
            self._work.set()
        self._make_room()
        self._publish()

    def _make_room(self) -> None:
        if self._source is not None:
            self._source.watched()
