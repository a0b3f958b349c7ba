"""Every session of one server: who is let in, who is found again, who has been away too long, and how the house empties."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic, time
from typing import Any

from mmduet.engine import recommended_options
from mmduet.errors import CapacityError, MmduetError, ServerError
from mmduet.protocol import server_events as told
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.event_log import Entry, EventLog
from mmduet.protocol.session.journal import Opened, Scribe
from mmduet.protocol.session.recovery import Recovered
from mmduet.protocol.settings import Settings
from mmduet.server.budget import Budget
from mmduet.server.config import ServerConfig
from mmduet.server.engine_room import EngineRoom
from mmduet.server.journal import Journal, JournalFolder
from mmduet.server.live_session import LiveSession
from mmduet.server.media import Media
from mmduet.server.metrics import Metrics
from mmduet.server.tracing import SessionTrace, tracer

log = logging.getLogger(__name__)
SWEEP_SECONDS = 0.5
RESTARTING = 1012


class House:
    """The sessions; ``budget`` is the memory that they may take in all."""

    def __init__(
        self,
        config: ServerConfig,
        room: EngineRoom,
        budget: Budget,
        media: Media,
        metrics: Metrics,
        journals: JournalFolder | None = None,
    ) -> None:
        self._journals, self._tracer = journals, tracer(config.tracing)
        self.config, self.room, self.budget, self.media, self.metrics = config, room, budget, media, metrics
        self.draining = False
        self.began = int(time())
        self._sessions: dict[str, LiveSession] = {}
        self._ended: dict[str, LiveSession] = {}  # kept for clients that have not heard the end
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.watch(self)

    @property
    def sessions(self) -> list[LiveSession]:
        """Those that are running."""
        return list(self._sessions.values())

    @property
    def running(self) -> int:
        """How many."""
        return len(self._sessions)

    @property
    def kv_used(self) -> int:
        """Bytes set aside for them."""
        return self.budget.used

    @property
    def kv_total(self) -> int:
        """Bytes there are for them."""
        return self.budget.total

    @property
    def model_name(self) -> str:
        """What clients ask for."""
        return self.room.engine.model.config.name

    def default_settings(self) -> Settings:
        """What a session is set to before its client says anything."""
        best = self.room.engine.model.config.recommended
        return Settings(self.model_name, recommended_options(best), best.fps)

    # coming

    def refuse_unless_open(self, model: str | None) -> None:
        """Raise ``ServerError`` where nobody is let in any more, or this model is not here."""
        if not self.room.thread.alive:
            raise CapacityError("the engine has stopped; the server has to be started anew")
        if self.draining:
            raise CapacityError("the server is closing; try again in a while")
        if model is not None and model != self.model_name:
            raise ServerError(f"model {model!r} is not here; this server has {self.model_name!r}")

    def admit(self, owner: str, settings: Settings | None = None) -> LiveSession:
        """A new session, its memory set aside. Raises ``CapacityError`` where there is none."""
        settings = settings or self.default_settings()
        name = f"sess_{secrets.token_hex(8)}"
        admit = self._admission(name, owner)
        admit(settings)
        token = secrets.token_urlsafe(24)
        journal = None
        if self._journals is not None:
            scribe = Scribe(Opened(name, token, owner, self.model_name))
            journal = self._journals.open(scribe)
        conversation = self._conversation(name, settings, admit, journal)
        session = LiveSession(conversation, token, owner, self.room, self.media, self.metrics, self._left, journal)
        self._sessions[name] = session
        self.metrics.sessions_total.inc()
        log.info("session %s opened", name)
        query = self.room.engine.model.config.recommended.query
        first = conversation.told(limits=self.limits(settings), resume_token=session.token, query=query)
        conversation.log.append(told.SessionCreated(session=first))
        session.work()
        return session

    def _admission(self, name: str, owner: str) -> Callable[[Settings], None]:
        """What sets a session's memory aside, as often as its settings change. Raises ``CapacityError``."""

        def admit(wanted: Settings) -> None:
            self.room.engine.check(wanted.options)
            self.budget.reserve(name, self.room.engine.slot_bytes(wanted.options), owner)

        return admit

    def _conversation(
        self,
        name: str,
        settings: Settings,
        admit: Callable[[Settings], None],
        journal: Journal | None,
        entries: Sequence[Entry] = (),
    ) -> Conversation:
        config = self.config
        trace = SessionTrace(self._tracer, name)

        def witness(event: told.ServerEvent) -> None:
            self.metrics.told(event)
            trace.told(event)

        events = EventLog(config.log_events, config.log_bytes, witness=witness, entries=entries)
        scribe = journal.scribe if journal is not None else None
        return Conversation(name, settings, config.bounds, events, admit, scribe)

    def recover(self) -> None:
        """Take up the sessions that the last server left behind; each waits for its client as one does that was lost."""
        for found, journal in self._journals.recovered() if self._journals is not None else ():
            assert found.opened is not None
            try:
                self._take_up(found, found.opened, journal)
            except CapacityError as error:  # there may be room another time
                log.warning("session %s is left for another start: %s", found.opened.id, error)
                journal.close()
            except MmduetError as error:
                log.warning("session %s cannot be taken up: %s", found.opened.id, error)
                journal.remove()

    def _take_up(self, found: Recovered, opened: Opened, journal: Journal) -> None:
        assert found.state is not None
        if opened.model != self.model_name:
            raise ServerError(f"it was watched by {opened.model!r}, this server has {self.model_name!r}")
        settings, admit = found.state.settings, self._admission(opened.id, opened.owner)
        if found.state.narrator.closed is None:
            admit(settings)
        entries = [found.entries[number] for number in sorted(found.entries)][-self.config.log_events :]
        conversation = self._conversation(opened.id, settings, admit, journal, entries)
        conversation.restore(found.state, found.waiting, found.items, monotonic())
        session = LiveSession(
            conversation,
            opened.token,
            opened.owner,
            self.room,
            self.media,
            self.metrics,
            self._left,
            journal,
            found.seen,
        )
        self._sessions[opened.id] = session
        if found.source is not None:
            reason = "the server was started anew; open it again"
            session.source_ended(told.SourceClosed(url=found.source, reason="failed", message=reason))
        session.work()
        log.info("session %s taken up after %d frames", opened.id, found.state.frames)

    def limits(self, settings: Settings) -> told.Limits:
        """What a client is told that it is held to."""
        config = self.config
        return told.Limits(
            max_sessions=self.budget.most,
            max_message_bytes=config.max_message_bytes,
            max_waiting_frames=config.max_waiting_frames,
            fps=settings.fps or 0.0,
            window=settings.options.window,
            idle_timeout_s=config.idle_timeout,
            time_to_live_s=config.time_to_live,
            adapters=tuple(sorted(config.adapters)),
        )

    def find(self, name: str, token: str, owner: str) -> LiveSession | None:
        """A running session, for whoever has its token and its key; None tells neither what was wrong nor whether it exists."""
        session = self._sessions.get(name) or self._ended.get(name)
        expected = session.token if session is not None else "no such token"
        right = hmac.compare_digest(token.encode(), expected.encode())
        found = session is not None and right and session.owner == owner and not session.done_with
        return session if found else None

    def owned(self, name: str, owner: str) -> LiveSession | None:
        """A session of this owner's, for requests that bring the key rather than the token."""
        session = self._sessions.get(name) or self._ended.get(name)
        return session if session is not None and session.owner == owner and not session.done_with else None

    # going

    def _left(self, session: LiveSession) -> None:
        if self._sessions.pop(session.id, None) is not None:
            self.budget.release(session.id)
            session.left = monotonic()
            self._ended[session.id] = session
            closed = session.conversation.narrator.closed
            log.info("session %s closed: %s", session.id, closed.reason if closed is not None else "suspended")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that must be, whatever becomes of the request that wanted it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sweep(self) -> None:
        """For ever: close who has been away, or silent, for too long."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for session in self.sessions:
                if self._too_long(session, now):
                    session.done_with = session.reader is None
                    session.close("idle")
            for session in list(self._ended.values()):
                if session.done_with or now - session.left > self.config.time_to_live:
                    del self._ended[session.id]
                    session.forget()

    def _too_long(self, session: LiveSession, now: float) -> bool:
        """Whether its client has been away, or silent, for longer than is waited."""
        if session.pulling:
            return False
        away = session.reader is None and now - session.left > self.config.time_to_live
        return away or now - session.heard > self.config.idle_timeout

    async def drain(self, seconds: float) -> None:
        """Let nobody in, tell everybody, wait for replies that are being written, then close every socket with 1012."""
        self.draining = True
        for session in self.sessions:
            session.tell(told.GoAway(time_left_s=seconds, reason="shutdown"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(session.speaking for session in self.sessions):
                    await asyncio.sleep(0.02)
        for session in self.sessions:
            session.dismiss(RESTARTING, "shutdown")

    async def close(self) -> None:
        """End every session; where there are journals, leave them to the next server."""
        for session in self.sessions:
            if self._journals is not None:
                session.suspend()
            else:
                session.close("shutdown")
        while self._sessions:
            await asyncio.sleep(0.01)
        if self._journals is not None:
            self._journals.close()
