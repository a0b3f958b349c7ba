"""Owns all sessions of one server: opens them, recovers them from journals, expires idle ones, drains and hands over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import Any

from mmduet.engine import recommended_options
from mmduet.errors import CapacityError, MmduetError, ModelNotFoundError, ServerError
from mmduet.protocol import server_events
from mmduet.protocol.limits import Limits
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.event_log import EventLog, LogEntry
from mmduet.protocol.session.journal import JournalWriter, SessionOpened
from mmduet.protocol.session.recovery import RecoveredSession
from mmduet.protocol.session.settings import SessionSettings
from mmduet.server.admission_queue import Ticket, create_queue
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.config import ServerConfig
from mmduet.server.journal import Journal, JournalFolder
from mmduet.server.key_limiter import KeyLimiters
from mmduet.server.live_session import LiveSession
from mmduet.server.log_events import (
    SESSION_NOT_RESTORED,
    SESSION_OPENED,
    SESSION_RESTORED,
    SESSION_SUSPENDED,
    SESSION_UNUSABLE,
)
from mmduet.server.media import MediaLoader
from mmduet.server.metrics import Metrics
from mmduet.server.replay import Replay
from mmduet.server.request_context import add_request_fields
from mmduet.server.session_activity import SessionActivity
from mmduet.server.session_admission import SessionAdmission
from mmduet.server.session_log import SessionLog
from mmduet.server.session_registry import SessionRegistry
from mmduet.server.socket_close import INTERNAL_ERROR, SERVICE_RESTART
from mmduet.server.tracing import SessionTrace, create_tracer
from mmduet.text import did_you_mean, shorten

log = logging.getLogger(__name__)
EXPIRY_CHECK_SECONDS = 0.5
DISCONNECT_SECONDS, RELEASE_SECONDS = 1.0, 1.0
"""Time for sessions that are handed over to send the remaining events and close their sockets, and to close their sources."""


class SessionManager:
    """Own every session; ``admission`` bounds their memory and their load."""

    def __init__(
        self,
        config: ServerConfig,
        engine: AsyncEngine,
        admission: SessionAdmission,
        media: MediaLoader,
        metrics: Metrics,
        journals: JournalFolder | None = None,
    ) -> None:
        self.config, self.engine, self.media, self.metrics = config, engine, media, metrics
        self.admission, self.budget = admission, admission.budget
        self.draining = False
        self.started_at = int(time())
        self._journals, self._tracer = journals, create_tracer(config.tracing)
        self.registry = SessionRegistry()
        self.queue = create_queue(config, self.budget)
        self._background_tasks: set[asyncio.Task[None]] = set()
        limits = config.key_limits.model_copy(update={"max_sessions": self.budget.key_limit})
        self.limiters = KeyLimiters(
            limits,
            self.budget.count_sessions,
            metrics.on_limited,
            frames_per_visitor=config.frames_per_second_per_client_secret,
        )
        metrics.bind_gauges(self)

    @property
    def sessions(self) -> list[LiveSession]:
        """Return the active sessions."""
        return list(self.registry.active.values())

    @property
    def active_count(self) -> int:
        """Return the number of active sessions."""
        return len(self.registry.active)

    @property
    def queued_count(self) -> int:
        """Return the number of clients that wait for a session."""
        return len(self.queue)

    @property
    def kv_used_bytes(self) -> int:
        """Return the KV memory that sessions have reserved, in bytes."""
        return self.budget.used_bytes

    @property
    def kv_total_bytes(self) -> int:
        """Return the KV memory available to sessions, in bytes."""
        return self.budget.total_bytes

    @property
    def utilization(self) -> float:
        """Return the share of the engine's time that the frames of live sessions take, as admission estimates it."""
        return self.admission.load.utilization

    @property
    def not_journaled_count(self) -> int:
        """Return the number of sessions whose journal cannot be written."""
        return sum(session.journal_problem is not None for session in self.sessions)

    @property
    def model_name(self) -> str:
        """Return the name under which the model is served."""
        return self.engine.model_config.name

    def default_settings(self) -> SessionSettings:
        """Return the settings of a session before its client changes them."""
        recommended = self.engine.model_config.recommended
        options, limit = recommended_options(recommended), self.config.max_frame_age
        return SessionSettings(self.model_name, options, recommended.fps, max_frame_age=limit)

    def limits(self, settings: SessionSettings) -> Limits:
        """Return the limits that are reported to a client with these settings."""
        config = self.config
        return Limits(
            max_sessions=self.budget.max_sessions,
            max_message_bytes=config.max_message_bytes,
            max_waiting_frames=config.max_waiting_frames,
            fps=settings.fps or 0.0,
            window=settings.options.window,
            idle_timeout_s=config.idle_timeout,
            time_to_live_s=config.time_to_live,
            adapters=tuple(sorted(config.adapters)),
            per_key=self.limiters.limits,
        )

    # Admission

    def check_accepting(self, model: str | None) -> None:
        """Raise ``CapacityError`` while stopping, or ``ModelNotFoundError`` for a model that is not served."""
        if not self.engine.alive:
            raise CapacityError("the engine has stopped; restart the server")
        if self.draining:
            raise CapacityError("the server is shutting down; try again later")
        if model is not None and model != self.model_name:
            suggestion = did_you_mean(model, [self.model_name])
            raise ModelNotFoundError(
                f"model {shorten(model)!r} is not served here{suggestion} available: {self.model_name!r}"
            )
        add_request_fields(model=self.model_name)

    def admit(self, owner: str, settings: SessionSettings | None = None) -> LiveSession:
        """Open a session and reserve its memory, after those of the clients that wait.

        Raises ``CapacityError`` if memory or the engine's time do not suffice.
        """
        self.check_accepting(None)
        self.queue.serve()
        settings = settings or self.default_settings()
        self.admission.check_load(settings)
        session_id, token = f"sess_{secrets.token_hex(8)}", secrets.token_urlsafe(24)
        reserve = self._reservation(session_id, owner)
        reserve(settings)
        journal = None
        if self._journals is not None:
            journal = self._journals.open(JournalWriter(SessionOpened(session_id, token, owner, self.model_name)))
        activity = SessionActivity()
        session_log = SessionLog(session_id, owner, self.model_name, settings.options.adapter)
        conversation = self._create_conversation(session_id, owner, settings, reserve, activity, journal, session_log)
        session = self._start_session(conversation, token, owner, activity, journal)
        self.metrics.sessions_total.inc()
        add_request_fields(session=session_id, key=owner, model=self.model_name, adapter=settings.options.adapter)
        SESSION_OPENED.emit(log, session=session_id, key=owner, model=self.model_name, adapter=settings.options.adapter)
        query = self.engine.model_config.recommended.query
        description = conversation.to_session(limits=self.limits(settings), resume_token=token, query=query)
        conversation.emit(server_events.SessionCreated(session=description))
        session.wake()
        return session

    def enqueue(self, owner: str, settings: SessionSettings) -> LiveSession | Ticket:
        """Open a session, or return a place in the queue for one. Raises as ``AdmissionQueue.join`` does."""
        admitted = self.queue.join(owner, lambda: self.admit(owner, settings))
        if isinstance(admitted, Ticket) and self.budget.is_at_limit(owner):
            self.metrics.on_limited("sessions")
        return admitted

    def _reservation(self, session_id: str, owner: str, *, restored: bool = False) -> Callable[[SessionSettings], None]:
        """Return a function that reserves memory for a session, to be called whenever its settings change."""

        def reserve(settings: SessionSettings) -> None:
            self.admission.reserve(session_id, settings, owner, restored=restored)

        return reserve

    def _create_conversation(
        self,
        session_id: str,
        owner: str,
        settings: SessionSettings,
        reserve: Callable[[SessionSettings], None],
        activity: SessionActivity,
        journal: Journal | None,
        session_log: SessionLog,
        entries: Sequence[LogEntry] = (),
    ) -> Conversation:
        config = self.config
        trace = SessionTrace(self._tracer, session_id)

        def observe(event: server_events.ServerEvent) -> None:
            self.metrics.on_event(event)
            trace.on_event(event)
            activity.on_event(event)
            session_log.on_event(event)

        events = EventLog(config.log_events, config.log_bytes, on_event=observe, entries=entries)
        writer = journal.writer if journal is not None else None
        limits = replace(config.session_limits, take_frame=partial(self.limiters.of(owner).take_frame, owner))
        return Conversation(session_id, settings, limits, events, reserve, writer)

    def _start_session(
        self,
        conversation: Conversation,
        token: str,
        owner: str,
        activity: SessionActivity,
        journal: Journal | None,
        replay: Replay | None = None,
    ) -> LiveSession:
        session = LiveSession(
            conversation,
            self.admission.track(conversation.id, conversation.settings),
            token,
            owner,
            self.engine,
            self.media,
            self.metrics,
            self._on_session_closed,
            activity,
            self.limiters.of(owner),
            journal,
            replay,
        )
        self.registry.active[session.id] = session
        return session

    # Recovery

    def restore_sessions(self) -> None:
        """Restore the sessions in the journal folder; each waits for its client as if the connection had been lost."""
        for recovered, journal in self._journals.recovered() if self._journals is not None else ():
            assert recovered.opened is not None
            try:
                self._restore_session(recovered, recovered.opened, journal)
            except CapacityError as error:  # keep the journal: a later start may have enough memory
                SESSION_NOT_RESTORED.emit(
                    log, session=recovered.opened.id, key=recovered.opened.owner, detail=str(error)
                )
                journal.close()
            except MmduetError as error:
                SESSION_UNUSABLE.emit(log, session=recovered.opened.id, key=recovered.opened.owner, detail=str(error))
                journal.remove()

    def _restore_session(self, recovered: RecoveredSession, opened: SessionOpened, journal: Journal) -> None:
        assert recovered.state is not None
        if opened.model != self.model_name:
            raise ServerError(f"its model is {opened.model!r}, this server has {self.model_name!r}")
        settings, reserve = recovered.state.settings, self._reservation(opened.id, opened.owner, restored=True)
        if recovered.state.emitter.closed is None:
            reserve(settings)
        entries = [recovered.entries[number] for number in sorted(recovered.entries)][-self.config.log_events :]
        activity = SessionActivity()
        emitter = recovered.state.emitter
        replies = emitter.reply_count - (emitter.speaking is not None)
        session_log = SessionLog(opened.id, opened.owner, self.model_name, settings.options.adapter, replies)
        conversation = self._create_conversation(
            opened.id, opened.owner, settings, reserve, activity, journal, session_log, entries
        )
        conversation.restore(recovered.state, recovered.pending_commands, recovered.items, monotonic())
        replay = Replay(recovered.history, recovered.past_replies)
        session = self._start_session(conversation, opened.token, opened.owner, activity, journal, replay)
        if recovered.source is not None:
            message = "the server was restarted; open the source again"
            session.source.on_closed(server_events.SourceClosed(url=recovered.source, reason="failed", message=message))
        session.wake()
        SESSION_RESTORED.emit(
            log, session=opened.id, key=opened.owner, model=self.model_name, frames=recovered.state.frames
        )

    # Closing

    def _on_session_closed(self, session: LiveSession) -> None:
        if self.registry.move_to_ended(session):
            self.admission.release(session.id)
            if not session.closed:
                SESSION_SUSPENDED.emit(log, session=session.id, key=session.owner)

    def run_in_background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end even if the request that started it is cancelled."""
        task = asyncio.create_task(coroutine)
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)

    async def expire_idle(self) -> None:
        """Periodically close sessions whose client is disconnected or silent for longer than the timeouts."""
        while True:
            await asyncio.sleep(EXPIRY_CHECK_SECONDS)
            self._serve_queue()
            now = monotonic()
            for session in self.sessions:
                if self._is_expired(session, now):
                    session.finished = session.subscriber is None
                    session.close("idle")
            for session in list(self.registry.ended.values()):
                if session.finished or now - session.detached_at > self.config.time_to_live:
                    self.registry.forget(session)

    def _serve_queue(self) -> None:
        """Admit clients for which the load has become low enough; close their sockets once the engine has stopped."""
        if self.engine.alive:
            self.queue.serve()
        else:
            self.queue.close(INTERNAL_ERROR, "the engine has stopped; restart the server")

    def _is_expired(self, session: LiveSession, now: float) -> bool:
        if session.source.is_open:
            return False
        lost = session.subscriber is None and now - session.detached_at > self.config.time_to_live
        return lost or now - session.last_message_at > self.config.idle_timeout

    def _stop_admission(self, reason: str) -> None:
        self.draining = True
        self.queue.close(SERVICE_RESTART, reason)

    async def drain(self, timeout_seconds: float) -> None:
        """Stop admission, notify clients, wait for unfinished replies, then close every socket with code 1012."""
        self._stop_admission("shutdown")
        for session in self.sessions:
            session.send(server_events.GoAway(time_left_s=timeout_seconds, reason="shutdown"))
        await _wait_until(lambda: not any(session.speaking for session in self.sessions), timeout_seconds)
        await _wait_until(lambda: all(session.all_sendable for session in self.sessions), DISCONNECT_SECONDS)
        for session in self.sessions:
            session.disconnect_subscriber(SERVICE_RESTART, "shutdown")

    async def hand_over(self, timeout_seconds: float) -> None:
        """Suspend every session for the next server, after the frames and replies that the engine is working on.

        Replies that take longer than ``timeout_seconds`` are cut and generated again by the next server. Admission stays
        closed. ``take_back`` continues the sessions on this server.
        """
        self._stop_admission("upgrade")
        for session in self.sessions:
            session.send(server_events.GoAway(time_left_s=timeout_seconds, reason="upgrade"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await asyncio.gather(*(session.stop_input() for session in self.sessions), return_exceptions=True)
        for session in self.sessions:
            session.disconnect_subscriber(SERVICE_RESTART, "upgrade")
        await _wait_until(lambda: not any(session.subscriber for session in self.sessions), DISCONNECT_SECONDS)
        for session in (*self.sessions, *self.registry.ended.values()):
            session.suspend()
        await _wait_until(lambda: not self.registry.active, RELEASE_SECONDS)
        if self._journals is not None:
            await self._journals.flush()

    async def take_back(self) -> None:
        """Continue after ``hand_over``, because the other server has failed."""
        await _wait_until(lambda: not self.registry.active, None)
        self.registry.ended.clear()
        self.restore_sessions()
        self.draining = False

    async def close(self) -> None:
        """Close every session, or suspend it for the next server if there are journals."""
        for session in self.sessions:
            if self._journals is not None:
                session.suspend()
            else:
                session.close("shutdown")
        await _wait_until(lambda: not self.registry.active, None)
        if self._journals is not None:
            self._journals.close()


async def _wait_until(condition: Callable[[], bool], timeout_seconds: float | None) -> None:
    """Wait until ``condition`` holds or the timeout, if any, is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while not condition():
                await asyncio.sleep(0.01)
