"""One session on the server: its conversation, the task that executes its commands on the engine, and its subscriber.

A session outlives its sockets. All methods run in the event loop; only the engine and the source reader use threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from mmduet.errors import CapacityError, MmduetError, SessionClosedError
from mmduet.events import NOT_JOURNALED, Output, Reply, ReplyStarted, Scores, SessionWarning, StreamEnded
from mmduet.protocol import client_events, server_events
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.event_log import LogEntry
from mmduet.protocol.session.frame_tracker import AcceptedFrame
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.engine_feed import EngineFeed
from mmduet.server.journal import Journal
from mmduet.server.key_limiter import KeyLimiter, LimitReporter
from mmduet.server.log_events import SESSION_FAILED
from mmduet.server.media import MediaLoader
from mmduet.server.metrics import Metrics
from mmduet.server.replay import Replay
from mmduet.server.session_activity import SessionActivity
from mmduet.server.session_load import SessionLoad
from mmduet.server.session_source import SessionSource

log = logging.getLogger(__name__)
FAILURE_REPORT_SECONDS = 1.0
REPLACED = 4001
"""WebSocket close code for a socket whose session was resumed on another one."""


@dataclass
class Subscriber:
    """A reader of a session's event log: a socket or an SSE stream.

    ``cursor`` is the last event it has read. ``closing`` is the code and reason to close it with after the remaining events.
    ``thumbnail`` is the newest one, to be sent when there are no other events.
    """

    number: int
    cursor: int
    closing: tuple[int, str] | None = None
    thumbnail: server_events.FrameThumbnail | None = None
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    def take_thumbnail(self) -> LogEntry | None:
        """Return the newest thumbnail, which does not move the cursor, and forget it; None if there is no new one."""
        thumbnail, self.thumbnail = self.thumbnail, None
        return None if thumbnail is None else LogEntry(self.cursor, thumbnail.model_dump_json(exclude={"event_id"}))


class LiveSession:
    """A running session."""

    def __init__(
        self,
        conversation: Conversation,
        load: SessionLoad,
        token: str,
        owner: str,
        engine: AsyncEngine,
        media: MediaLoader,
        metrics: Metrics,
        on_closed: Callable[[LiveSession], None],
        activity: SessionActivity,
        limiter: KeyLimiter,
        journal: Journal | None = None,
        replay: Replay | None = None,
    ) -> None:
        """``activity`` observes the session's events; ``replay`` is what a session restored from a journal begins with."""
        self.conversation, self.token, self.owner, self.activity = conversation, token, owner, activity
        self.finished = False  # no client will read its remaining events
        self.input_stopped = False  # no new input is executed, and messages of the client are not consumed
        self._released = False  # the memory and the place among the sessions of the key
        self.subscriber: Subscriber | None = None
        self.last_message_at = self.detached_at = monotonic()
        self._engine, self._metrics, self._on_closed = engine, metrics, on_closed
        self.limiter, self._limit_reporter = limiter, LimitReporter(limiter)
        self._journal, self._journaled_messages = journal, -1  # messages that the journal records as consumed
        self._replay = replay or Replay()
        self.source = SessionSource(self, media, load, metrics, engine.model_config.recommended.fps)
        self._subscriber_count = 0
        self._suspended = False
        self._load = load
        self._feed = EngineFeed(conversation, engine, load, self._on_output, limiter.take_token)
        conversation.limits_frame_age = not self._replay.pending  # what arrives during the replay has to wait for it
        self._wakeup = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"session {self.id}")

    @property
    def id(self) -> str:
        """Return the session's id on the wire."""
        return self.conversation.id

    @property
    def closed(self) -> bool:
        """Return whether the session's last event has been emitted."""
        return self.conversation.closed is not None

    @property
    def speaking(self) -> bool:
        """Return whether a reply is being generated."""
        return self.conversation.speaking

    @property
    def suspended(self) -> bool:
        """Return whether another server continues the session."""
        return self._suspended

    def journal_source(self, url: str | None) -> None:
        """Record the open source, without credentials; None for none."""
        if self._journal is not None:
            self._journal.writer.source_changed(url)

    # Clients

    def receive(self, message: str | bytes) -> None:
        """Process one message from the client's socket. Raises ``ProtocolAbuse`` if it exceeds its message rate."""
        if self._suspended:
            return
        self.last_message_at = monotonic()
        counts = self.conversation.frame_counts
        before = counts["received"]
        self.conversation.receive(message, self.last_message_at)
        self._metrics.frames_received.inc(counts["received"] - before)
        self.wake()

    def execute(self, event: client_events.ClientEventBase) -> None:
        """Process an event that has not come through a socket. Raises ``ProtocolError``, ``CapacityError`` once suspended."""
        if self._suspended:
            raise CapacityError("the session moves to another server process; send the request again")
        self.last_message_at = monotonic()
        self.conversation.handle_event(event, self.last_message_at)
        self.wake()

    def attach(self, after_event: int) -> Subscriber:
        """Return a subscriber to the events after number ``after_event``; it replaces the current one."""
        if self.subscriber is not None:
            self.conversation.emit(server_events.SessionReplaced(session_id=self.id), subscriber=self.subscriber.number)
            self._publish()
            self._disconnect(self.subscriber, REPLACED, "replaced")
        self._subscriber_count += 1
        self.last_message_at = monotonic()
        self.subscriber = Subscriber(self._subscriber_count, after_event)
        return self.subscriber

    def detach(self, subscriber: Subscriber) -> None:
        """Remove a subscriber that has disconnected."""
        if self.subscriber is subscriber:
            self.subscriber, self.detached_at = None, monotonic()

    def send(self, event: server_events.ServerEvent) -> None:
        """Send an event to the current subscriber only."""
        only = self.subscriber.number if self.subscriber is not None else 0
        self.conversation.emit(event, subscriber=only)
        self._publish()

    def disconnect_subscriber(self, code: int, reason: str) -> None:
        """Close the subscriber after it has read the remaining events."""
        if self.subscriber is not None:
            self._disconnect(self.subscriber, code, reason)

    def _disconnect(self, subscriber: Subscriber, code: int, reason: str) -> None:
        subscriber.closing = subscriber.closing or (code, reason)
        subscriber.wakeup.set()

    def wake(self) -> None:
        """Execute new commands and publish new events."""
        self._load.on_frames(self.conversation.queued_count, monotonic())
        self._drop_outdated()
        self._wakeup.set()
        self._report_limits(for_reply=False)
        self._publish()

    def _drop_outdated(self) -> None:
        """Drop frames that have become too old, unless the next server is to score what is queued."""
        if not self.input_stopped:
            self.conversation.drop_outdated(monotonic(), self._load.latency)

    def _report_limits(self, *, for_reply: bool) -> None:
        event = self._limit_reporter.next_event(for_reply=for_reply)
        if event is not None and not self.closed:
            self.conversation.emit(event)

    def _publish(self) -> None:
        """Write new events to the journal first and then let the subscriber read them."""
        journal, consumed = self._journal, self.conversation.consumed_count
        if journal is not None and journal.is_writing:
            journal.limit_backlog()
        elif journal is not None and (
            journal.is_retry_due or not (journal.writer.is_empty and consumed == self._journaled_messages)
        ):
            self._journaled_messages = consumed
            journal.commit(self.conversation.state.to_json(), self.conversation.log, self._on_journal_change)
        if self.subscriber is not None:
            self.subscriber.wakeup.set()

    def _on_journal_change(self) -> None:
        """Warn the client if the session would not survive a restart, and continue with what has been waiting."""
        if (problem := self.journal_problem) is not None and not self.closed:
            message = f"the journal cannot be written ({problem}); until it can, the session does not survive a restart"
            self.conversation.on_output(SessionWarning(NOT_JOURNALED, message, 0.0), monotonic())
        self._publish()

    @property
    def journal_problem(self) -> str | None:
        """Return why the session is not journaled although the server has a journal; None if it is."""
        return self._journal.problem if self._journal is not None else None

    def next_event(self, subscriber: Subscriber) -> LogEntry | None:
        """Return the next event for a subscriber; None if there is none that may be sent yet.

        After all others that is the newest thumbnail, with the number of the last event, unless the session has ended.
        """
        entry = self.conversation.log.next_after(subscriber.cursor, subscriber.number)
        if entry is None:
            return None if self.closed else subscriber.take_thumbnail()
        return entry if self._may_send(entry.number) else None

    @property
    def all_sendable(self) -> bool:
        """Return whether no event is waiting for the journal."""
        return self._may_send(self.conversation.log.last_number)

    def _may_send(self, event_number: int) -> bool:
        """``session.closed`` waits until the memory is free, so that its client can open the next session at once."""
        if self.closed and not self._released and event_number == self.conversation.log.last_number:
            return False
        return self._journal is None or self._journal.may_send(event_number)

    # Closing

    def close(self, reason: str) -> None:
        """End the session and emit its last event."""
        self.conversation.close(reason, monotonic())
        self.wake()

    async def stop_input(self) -> None:
        """Execute no more commands and wait for the frames and replies that the engine is working on.

        Messages of the client are not consumed any more; the client sends them again when it resumes.
        """
        self.input_stopped = True
        await self._feed.wait_until_idle()

    def suspend(self) -> None:
        """Stop without ending the session, so that another server can continue it from its journal.

        Nothing is emitted afterwards, because the journal would not know of it.
        """
        self.input_stopped = self._suspended = True
        if self._journal is not None:
            self._journal.close(self.conversation.state.to_json(), self.conversation.log.first_number)
        self._journal = None
        self._task.cancel()

    def discard_journal(self) -> None:
        """Delete the journal of a session that will not be resumed."""
        if self._journal is not None:
            self._journal.remove()

    async def _release(self) -> None:
        """Stop the source and release the engine's memory."""
        try:
            await self.source.stop()
            await self._feed.close()
        finally:
            self.limiter.close_source(self.id)
            self._on_closed(self)
            self._released = True
            self._publish()

    # Commands

    async def _run(self) -> None:
        try:
            if not self.closed and self._replay.pending:
                await self._feed.replay(self._replay)
            self.conversation.limits_frame_age = True
            while not self.closed:
                command = self._next_command()
                if command is None:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                else:
                    await self._execute(command)
                    self._publish()
        except SessionClosedError as error:
            await self._wait_for_failure()
            self._fail(error)
        except MmduetError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            SESSION_FAILED.emit(log, error=error, session=self.id, key=self.owner)
            self._fail(MmduetError("the server failed; reconnect"))
        finally:
            await self._release()

    def _next_command(self) -> commands.Command | None:
        self._drop_outdated()
        return None if self.input_stopped else self.conversation.next_command(self._feed.frames_in_flight)

    async def _wait_for_failure(self) -> None:
        """Wait until the engine's report about the failed session has been processed, which states the cause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAILURE_REPORT_SECONDS):
                while not self.closed:
                    self._wakeup.clear()
                    await self._wakeup.wait()

    def _fail(self, error: MmduetError) -> None:
        if self.closed:
            return
        self.conversation.fail(str(error), error.code, server=True)
        self.close("failed")

    async def _execute(self, command: commands.Command) -> None:
        match command:
            case commands.OpenSource() | commands.UpdateSource() | commands.CloseSource():
                await self.source.execute(command)
            case _:
                if isinstance(command, commands.End):
                    await self.source.stop()
                await self._feed.execute(command)
                self.source.notify_frame_finished()  # a frame that cannot be decoded has no output

    # Outputs

    def _on_output(self, output: Output | None) -> None:
        """Process one output of the engine; None means that the engine has stopped."""
        if self._suspended or self._replay.consumes(output):
            return
        if output is None:
            self._engine.stopped_error()  # logs the reason
            self._fail(MmduetError("the engine has stopped; reconnect"))
            return
        now = monotonic()
        if isinstance(output, Scores):
            self._feed.on_scored(output.frame, now)
            if (frame := self.conversation.find_frame(output.frame)) is not None:
                self._metrics.on_frame_scored(now - frame.received_at, output.speak)
                self._offer_thumbnail(frame)
        if not self.closed:
            self.conversation.on_output(output, now)
            if isinstance(output, ReplyStarted | Reply):
                self._report_limits(for_reply=True)
        if isinstance(output, StreamEnded | Scores) or self.closed:
            self._wakeup.set()
        self.source.notify_frame_finished()
        self._publish()

    def _offer_thumbnail(self, frame: AcceptedFrame) -> None:
        """Let the subscriber send the thumbnail of a scored frame after the other events, unless a newer one replaces it."""
        thumbnail = self.source.take_thumbnail(frame)
        if thumbnail is not None and self.subscriber is not None:
            self.subscriber.thumbnail = thumbnail
