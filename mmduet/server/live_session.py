"""One session on the server: its conversation, the task that executes its commands on the engine, and its subscriber.

A session outlives its sockets. All methods run in the event loop; only the engine and the source reader use threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from mmduet.engine import Session
from mmduet.errors import MmduetError, SessionClosedError, VideoError
from mmduet.events import Context, Output, Query, Scores, StreamEnded
from mmduet.protocol import client_events, server_events
from mmduet.protocol.session import commands
from mmduet.protocol.session.commands import MAX_IN_FLIGHT
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.recovery import ReplayItem
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.journal import Journal
from mmduet.server.media import MediaLoader
from mmduet.server.metrics import Metrics
from mmduet.server.replay import Replay, scoring_only
from mmduet.server.session_activity import SessionActivity
from mmduet.server.session_load import SessionLoad
from mmduet.server.source_reader import SourceReader

log = logging.getLogger(__name__)
FAILURE_REPORT_SECONDS = 1.0
REPLACED = 4001
"""WebSocket close code for a socket whose session was resumed on another one."""


@dataclass
class Subscriber:
    """A reader of a session's event log: a socket or an SSE stream.

    ``cursor`` is the last event it has read. ``closing`` is the code and reason to close it with after the remaining events.
    """

    number: int
    cursor: int
    closing: tuple[int, str] | None = None
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)


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
        journal: Journal | None = None,
        history: Sequence[ReplayItem] = (),
    ) -> None:
        """``activity`` observes the session's events.

        ``history`` is what the engine has to replay for a session that was restored from a journal.
        """
        self.conversation, self.token, self.owner, self.activity = conversation, token, owner, activity
        self.finished = False  # no client will read its remaining events
        self.subscriber: Subscriber | None = None
        self.last_message_at = self.detached_at = monotonic()
        self._engine, self._media, self._metrics, self._on_closed = engine, media, metrics, on_closed
        self._journal, self._journaled_messages = journal, -1  # messages that the journal records as consumed
        self._replay = Replay(history)
        self.source: SourceReader | None = None  # while the server reads one
        self.source_unpaused = asyncio.Event()
        self.source_unpaused.set()
        self._subscriber_count = 0
        self._load = load
        self._in_flight: dict[int, float] = {}  # when the frames that the engine has not scored yet left the queue
        self._latest_time = 0.0  # stream time of the last frame handed to the engine, in seconds
        self._engine_session: Session | None = None
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
    def has_open_source(self) -> bool:
        """Return whether the server reads frames from a source, in which case no client needs to be connected."""
        return self.source is not None

    def _journal_source(self) -> None:
        if self._journal is not None:
            self._journal.writer.source_changed(self.source.url if self.source is not None else None)

    # Clients

    def receive(self, message: str | bytes) -> None:
        """Process one message from the client's socket. Raises ``ProtocolAbuse`` if it exceeds its message rate."""
        self.last_message_at = monotonic()
        counts = self.conversation.frame_counts
        before = counts["received"]
        self.conversation.receive(message, self.last_message_at)
        self._metrics.frames_received.inc(counts["received"] - before)
        self.wake()

    def execute(self, event: client_events.ClientEventBase) -> None:
        """Process an event that has not come through a socket. Raises ``ProtocolError``."""
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
        now = monotonic()
        self._load.on_frames(self.conversation.queued_count, now)
        self.conversation.drop_outdated(now, self._load.latency)
        self._wakeup.set()
        self._publish()

    def _publish(self) -> None:
        """Write new events to the journal first and then let the subscriber read them."""
        journal, consumed = self._journal, self.conversation.consumed_count
        if journal is not None and not (journal.writer.is_empty and consumed == self._journaled_messages):
            self._journaled_messages = consumed
            journal.commit(self.conversation.state.to_json(), self.conversation.log)
        if self.subscriber is not None:
            self.subscriber.wakeup.set()

    # Closing

    def close(self, reason: str) -> None:
        """End the session and emit its last event."""
        self.conversation.close(reason, monotonic())
        self.wake()

    def suspend(self) -> None:
        """Stop without ending the session, so that another server can continue it from its journal."""
        if self._journal is not None:
            self._journal.close()
        self._journal = None
        self._task.cancel()

    def discard_journal(self) -> None:
        """Delete the journal of a session that will not be resumed."""
        if self._journal is not None:
            self._journal.remove()

    async def _release(self) -> None:
        """Stop the source and release the engine's memory."""
        try:
            if self.source is not None:
                await self.source.stop()
            if self._engine_session is not None:
                session, self._engine_session = self._engine_session, None  # drop our reference to its slot
                with contextlib.suppress(MmduetError):
                    await self._engine.close_session(session)
        finally:
            self._on_closed(self)

    # Commands

    async def _run(self) -> None:
        try:
            await self._replay_history()
            while not self.closed:
                self.conversation.drop_outdated(monotonic(), self._load.latency)
                command = self.conversation.next_command(self._frames_in_flight)
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
        except Exception:
            log.exception("session %s failed", self.id)
            self._fail(MmduetError("the server failed; reconnect"))
        finally:
            await self._release()

    @property
    def _frames_in_flight(self) -> int:
        """Return the number of frames with the engine; as many as possible if no more should be handed over.

        On a slow engine only one is there at a time: the next one is chosen later and therefore newer.
        """
        return MAX_IN_FLIGHT if self._in_flight and self._load.is_slow else len(self._in_flight)

    async def _replay_history(self) -> None:
        """Restore the engine's context from the history without emitting anything."""
        if self.closed or not self._replay.pending:
            return
        options = self.conversation.settings.options
        session = self._engine_session = await self._engine.open_session(scoring_only(options), self._on_output)
        async for item in self._replay.items(self._engine):
            await self._engine.call(lambda engine, item=item: engine.push(session, item))  # type: ignore[misc]
        self._latest_time = self._replay.time
        await self._replay.wait_until_scored()
        if not session.closed:
            await self._engine.call(lambda engine: engine.update_policy(session, options.speak))

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
            case commands.ScoreFrame():
                await self._score_frame(command)
            case commands.AppendTurn():
                await self._append_turn(command)
            case commands.OpenSource():
                self._open_source(command)
            case commands.CloseSource():
                await self._close_source()
            case _:
                await self._execute_on_engine(command)

    async def _execute_on_engine(self, command: commands.Command) -> None:
        session = await self._get_engine_session()
        match command:
            case commands.SpeakNow():
                await self._engine.call(lambda engine: engine.speak_now(session))
            case commands.CancelReply(reply=reply):
                await self._engine.call(lambda engine: engine.cancel(session, reply))
            case commands.UpdatePolicy(speak=speak):
                await self._engine.call(lambda engine: engine.update_policy(session, speak))
            case commands.End():
                if self.source is not None:
                    await self.source.stop()
                await self._engine.call(lambda engine: engine.end(session))

    async def _score_frame(self, command: commands.ScoreFrame) -> None:
        session, taken_at = await self._get_engine_session(), monotonic()
        try:
            frame = await self._engine.decode(command)
        except VideoError as error:
            log.debug("session %s: frame %d: %s", self.id, command.index, error)
            if not self.closed:
                self.conversation.drop_frame(command.index, "decode_error", monotonic())
            self._notify_source()
            return
        if self.closed:
            return
        self._in_flight[command.index] = taken_at
        self._latest_time = command.time
        await self._engine.call(lambda engine: engine.push(session, frame))

    async def _append_turn(self, command: commands.AppendTurn) -> None:
        session, time = await self._get_engine_session(), self._latest_time
        is_context = command.role == "system"
        turn = Context(command.text, time, command.keep) if is_context else Query(command.text, time)
        try:
            await self._engine.call(lambda engine: engine.push(session, turn))
        except MmduetError as error:
            if session.closed:
                raise
            self.conversation.reject_turn(command.number, error, error.code)

    async def _get_engine_session(self) -> Session:
        """Return the engine's session, opened with the first command so that the client can set options before."""
        if self._engine_session is None:
            self._engine_session = await self._engine.open_session(self.conversation.settings.options, self._on_output)
        return self._engine_session

    # Sources

    def _open_source(self, command: commands.OpenSource) -> None:
        if self.source is not None:
            self.conversation.fail(f"source {self.source.url} is open; close it first", "source_is_open")
            return
        self.source = SourceReader(self, self._media, command.url, self.source_unpaused, command.transport)
        self._journal_source()

    async def _close_source(self) -> None:
        if self.source is None:
            self.conversation.fail("no source is open; there is nothing to close", "no_source")
            return
        await self.source.stop()

    def on_source_frame(self, *, live: bool) -> None:
        """Count a frame read from the source."""
        self._load.reads_file = not live
        self._metrics.frames_received.inc()

    def on_source_closed(self, event: server_events.SourceClosed) -> None:
        """Send the event, forget the source, and end the session if it was opened for the source alone."""
        self.source, self._load.reads_file = None, False
        self.source_unpaused.set()
        self._journal_source()
        if not self.closed:
            self.conversation.emit(event)
        self.last_message_at = self.detached_at = monotonic()  # timeouts did not apply while the source was open
        self.wake()
        if self.conversation.ends_with_source and not self.conversation.ended and not self.closed:
            self.execute(client_events.EndFrames(type="input_frame.end"))

    def _notify_source(self) -> None:
        if self.source is not None:
            self.source.notify_frame_finished()

    # Outputs

    def _on_output(self, output: Output | None) -> None:
        """Process one output of the engine; None means that the engine has stopped."""
        if self._replay.consumes(output):
            return
        if output is None:
            self._engine.stopped_error()  # logs the reason
            self._fail(MmduetError("the engine has stopped; reconnect"))
            return
        now = monotonic()
        if isinstance(output, Scores):
            self._load.on_scored(now, now - self._in_flight.pop(output.frame, now))
            if (frame := self.conversation.find_frame(output.frame)) is not None:
                self._metrics.on_frame_scored(now - frame.received_at, output.speak)
        if not self.closed:
            self.conversation.on_output(output, now)
        if isinstance(output, StreamEnded | Scores) or self.closed:
            self._wakeup.set()
        self._notify_source()
        self._publish()
