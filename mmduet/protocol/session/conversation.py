"""The server's side of one session, sans I/O: messages in, commands for the engine and events for the client out.

``receive`` takes the client's messages, ``next_command`` returns what the engine must do next, ``on_output`` takes the engine's
outputs, and ``log`` holds the events for the client. There are no sockets, no clock (``now`` is passed in) and no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmduet.errors import CapacityError, FormatError, OptionError, ProtocolError
from mmduet.events import Output
from mmduet.protocol import client_events, frames, server_events
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation_state import ConversationState
from mmduet.protocol.session.event_emitter import EventEmitter, RequestedReply
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import AcceptedFrame
from mmduet.protocol.session.items import check_text, decode_images, to_server_item
from mmduet.protocol.session.journal import JournalWriter, NullJournalWriter
from mmduet.protocol.session.limits import MessageRateLimiter, SessionLimits
from mmduet.protocol.session.settings import SessionSettings
from mmduet.protocol.session.source_commands import SourceEvent, to_source_command
from mmduet.redaction import redact
from mmduet.video.sampling import FrameSampler

STILL_IMAGE_FPS = 2.0
"""Rate at which images in turns are spaced if the session has no fps of its own."""


class Conversation:
    """One session over all its sockets.

    Args:
        session_id: Id of the session on the wire.
        settings: Settings of the session until the client changes them.
        limits: Bounds on queued input and on the message rate.
        log: Log for the events; a new one by default.
        admit: Called with new settings; raises if the server cannot accept them.
        journal: Records everything from which the session can be recovered.

    Attributes:
        consumed_count: Number of messages received from the client.
        queued_count: Number of frames that have been put into the queue.
        started: Whether the session has received input.
        ended: Whether the client has announced that no more frames follow.
        ends_with_source: Whether the session ends when its source is closed.
        limits_frame_age: Whether frames that arrive now are dropped later if they exceed ``max_frame_age``.
    """

    def __init__(
        self,
        session_id: str,
        settings: SessionSettings,
        limits: SessionLimits,
        log: EventLog | None = None,
        admit: Callable[[SessionSettings], None] = lambda settings: None,
        journal: JournalWriter | None = None,
    ) -> None:
        self.id = session_id
        self.settings = settings
        self._emitter = EventEmitter(session_id, log or EventLog(), journal)
        self._emitter.scores, self._emitter.ack = settings.scores, settings.ack
        self.consumed_count = self.queued_count = 0
        self.started = self.ended = self.ends_with_source = False
        self.limits_frame_age = True
        self._limits, self._check_admission, self._journal = limits, admit, journal or NullJournalWriter()
        if journal is not None:
            self.log.on_entry = journal.event_emitted
        self._commands = commands.CommandQueue(limits.max_waiting_frames, limits.max_waiting_turns)
        self._sampler = FrameSampler(settings.fps)
        self._last_frame: AcceptedFrame | None = None
        self._first_pts: int | None = None
        self._item_count = self._turn_count = self._frame_count = 0
        self._rate_limiter = MessageRateLimiter(limits)

    @property
    def log(self) -> EventLog:
        """The numbered events for the client."""
        return self._emitter.log

    @property
    def closed(self) -> server_events.SessionClosed | None:
        """The session's last event; None while the session is open."""
        return self._emitter.closed_event

    @property
    def speaking(self) -> bool:
        """Whether a reply is being generated."""
        return self._emitter.speaking is not None

    @property
    def frame_counts(self) -> Mapping[str, int]:
        """Number of frames by outcome; ``received`` counts all of them."""
        return self._emitter.frames.counts

    @property
    def unfinished_frames(self) -> int:
        """Number of accepted frames that are neither scored nor dropped yet."""
        return self._emitter.frames.open_count

    @property
    def unread_turns(self) -> Sequence[tuple[int, server_events.Item]]:
        """Number and item of every turn that the model has not read yet."""
        return tuple(self._emitter.unread_turns)

    def find_frame(self, index: int) -> AcceptedFrame | None:
        """Return an accepted frame that is neither scored nor dropped yet; None for any other index."""
        return self._emitter.frames.find(index)

    def receive(self, message: str | bytes, now: float) -> None:
        """Process one message from the client's socket; invalid ones are reported as ``error`` events.

        Raises ``ProtocolAbuse`` if the client exceeds its message rate.
        """
        self._rate_limiter.check(now)
        self.consumed_count += 1
        if self._emitter.closed_event is not None:
            return
        try:
            if isinstance(message, bytes):
                self._accept_frame(frames.unpack_frame(message), now)
            else:
                self.handle_event(client_events.parse_client_event(message), now)
        except ProtocolError as error:
            self._emitter.emit_error(str(error), error.code, param=error.param, event_id=error.event_id)

    def handle_event(self, event: Any, now: float) -> None:
        """Process an event, one of ``ClientEvent``, even if it has not come through a socket. Raises ``ProtocolError``."""
        match event:
            case client_events.UpdateSession():
                self._update_settings(event)
            case client_events.CreateItem():
                self._append_turn(event, now)
            case client_events.CreateResponse():
                self._queue_reply(event, now)
            case client_events.CancelResponse():
                self._queue_cancel(event)
            case client_events.AppendFrame():
                self._accept_frame(
                    frames.WireFrame(event.seq, event.pts, frames.image_from_base64(event.image, "image")), now
                )
            case client_events.EndFrames():
                self._queue_end(event)
            case client_events.OpenSource() | client_events.UpdateSource() | client_events.CloseSource():
                self._queue_source(event)
            case _:
                self._handle_socket_event(event)

    def _handle_socket_event(self, event: client_events.Heartbeat | client_events.ResumeSession) -> None:
        if isinstance(event, client_events.ResumeSession):
            reason = "session.resume must be the first message on a socket; reconnect to resume"
            raise ProtocolError(reason, "not_first", event_id=event.event_id)
        self.log.append(server_events.HeartbeatAck(last_consumed_client_message_index=self.consumed_count - 1))

    def _queue_source(self, event: SourceEvent) -> None:
        self._queue(to_source_command(event), event)
        if isinstance(event, client_events.OpenSource):
            self._journal.source_changed(redact(event.url))

    def _update_settings(self, event: client_events.UpdateSession) -> None:
        before = self.settings
        self._check_not_ended(event.event_id)
        try:
            settings = before.with_update(event.session, started=self.started)
            self._check_admission(settings)
            policy_changes = self.started and settings.options.speak != before.options.speak
            if policy_changes:
                self._check_queue_capacity(event)
        except (ProtocolError, OptionError, FormatError, CapacityError) as error:
            param = error.param if isinstance(error, ProtocolError) else "session"
            code = "invalid_value" if isinstance(error, OptionError | FormatError) else error.code
            raise ProtocolError(str(error), code, param=param, event_id=event.event_id) from error
        self.settings = settings
        self._emitter.scores, self._emitter.ack = settings.scores, settings.ack
        if settings.fps != before.fps:
            self._sampler = FrameSampler(settings.fps)
        if policy_changes:
            self._commands.put(commands.UpdatePolicy(settings.options.speak))
        self.log.append(server_events.SessionUpdated(session=self.to_session()))
        self.check_speak_policy()

    def check_speak_policy(self) -> None:
        """Emit a warning if the speak policy never fires, or at every frame, regardless of the scores."""
        self._emitter.check_speak_policy(self.settings.options.speak)

    def _append_turn(self, event: client_events.CreateItem, now: float) -> None:
        item, item_id = event.item, event.item.id or self._next_item_id()
        self._check_queue_capacity(event)
        images = decode_images(item)
        check_text(item, event.event_id)
        for image in images:
            self._accept_frame(frames.WireFrame(None, self.next_pts(), image), now)
        server_item = to_server_item(item, item_id)
        if not item.text:
            return self._emitter.add_item(server_item, None)
        self._turn_count += 1
        turn = commands.AppendTurn(item_id, item.role, item.text, item.duet.keep, self._turn_count)
        self._emitter.add_item(server_item, turn.number)
        self._queue(turn, event)
        self._journal.turn_accepted(turn, server_item)
        return None

    def _queue_reply(self, event: client_events.CreateResponse, now: float) -> None:
        if self._emitter.requested:
            raise ProtocolError(
                "a requested reply has not started yet; wait for response.created",
                "conversation_already_has_active_response",
                event_id=event.event_id,
            )
        self._queue(commands.SpeakNow(), event)
        self._emitter.requested.append(RequestedReply(event.response.metadata, now))

    def _queue_cancel(self, event: client_events.CancelResponse) -> None:
        speaking = self._emitter.speaking
        if speaking is None or event.response_id not in (None, speaking.response_id):
            raise ProtocolError(
                "no such reply is being generated; there is nothing to cancel",
                "response_cancel_not_active",
                event_id=event.event_id,
            )
        self._commands.put(commands.CancelReply(speaking.number))

    def _queue_end(self, event: client_events.EndFrames) -> None:
        self._check_not_ended(event.event_id)
        self.ended = self.started = True
        self._commands.put(commands.End())
        self._journal.command_queued("end")

    def _queue(self, command: commands.Command, event: client_events.ClientEventBase) -> None:
        self._check_queue_capacity(event)
        self.started = True
        self._commands.put(command)
        if isinstance(command, commands.SpeakNow):
            self._journal.command_queued("speak")

    def _check_queue_capacity(self, event: client_events.ClientEventBase) -> None:
        self._check_not_ended(event.event_id)
        if not self._commands.can_accept_turn:
            raise ProtocolError(
                f"the maximum of {self._limits.max_waiting_turns} messages is waiting; send it again when some are done",
                "too_many_waiting",
                event_id=event.event_id,
            )

    def _check_not_ended(self, event_id: str | None) -> None:
        if self.ended:
            raise ProtocolError(
                "input_frame.end was sent; open a new session for more input", "session_ended", event_id=event_id
            )

    def _next_item_id(self) -> str:
        self._item_count += 1
        return f"item_{self.id}_{self._item_count}"

    def _accept_frame(
        self, frame: frames.WireFrame, now: float, *, sampled: bool = False, paused: bool = False, live: bool = True
    ) -> None:
        self._check_not_ended(None)
        self.started = True
        seq = frame.seq if frame.seq is not None else self._last_frame.seq + 1 if self._last_frame else 0
        accepted = self._assign_time(seq, frame.pts, now)
        reason = self._drop_reason(accepted, sampled, paused)
        self._emitter.frames.accept(accepted)
        if reason is not None:
            return self._emitter.drop_frame(accepted.index, reason, now)
        self.queued_count += 1
        received_at = now if live and self.limits_frame_age else None
        command = commands.ScoreFrame(accepted.index, accepted.time, frame.image, received_at)
        self._journal.frame_accepted(command)
        if (dropped := self._commands.put(command)) is not None:
            self._emitter.drop_frame(dropped.index, "late", now)
        return None

    def _assign_time(self, seq: int, pts: int, now: float) -> AcceptedFrame:
        if self._first_pts is None:
            self._first_pts = pts
        self._frame_count += 1
        return AcceptedFrame(self._frame_count - 1, seq, pts, (pts - self._first_pts) / 1e6, now)

    def _drop_reason(self, frame: AcceptedFrame, sampled: bool, paused: bool) -> server_events.DropReason | None:
        """Return why a frame is dropped, or None. The highest seq and pts so far are kept even if it is."""
        last = self._last_frame
        if last is not None and frame.seq <= last.seq:
            return "duplicate"
        if last is not None and frame.pts <= last.pts:
            self._last_frame = replace(frame, pts=last.pts, time=last.time)
            return "duplicate" if frame.pts == last.pts else "late"
        self._last_frame = frame
        sampled = sampled or self._sampler.accept(frame.time)
        if sampled and paused:
            return "paused"
        return None if sampled and self._limits.take_frame() else "rate"

    @property
    def waiting_frames(self) -> int:
        """Number of queued frames."""
        return self._commands.frame_count

    def push_source_frame(
        self, pts: int, image: frames.EncodedImage, now: float, *, fps: float | None, paused: bool = False, live: bool
    ) -> None:
        """Add a frame of the source, read at ``fps``; drop it while that is paused, or later for its age if it is ``live``."""
        if not self.ended and self._emitter.closed_event is None:
            sampled = fps == self.settings.fps  # otherwise the rate was lowered after the source was opened
            self._accept_frame(frames.WireFrame(None, pts, image), now, sampled=sampled, paused=paused, live=live)

    @property
    def last_frame_at(self) -> float | None:
        """When the newest frame arrived, on the server's clock; None before the first one."""
        return self._last_frame.received_at if self._last_frame is not None else None

    def next_pts(self) -> int:
        """Return the pts, in microseconds, of a frame that follows the last one by one sampling interval."""
        step = round(1e6 / (self.settings.fps or STILL_IMAGE_FPS))
        return self._last_frame.pts + step if self._last_frame else 0

    def next_command(self, frames_in_flight: int = 0) -> commands.Command | None:
        """Remove and return the next command, or None if it has to wait for the frames in flight in the engine."""
        return self._commands.take(frames_in_flight)

    def drop_outdated(self, now: float, latency: float = 0.0) -> None:
        """Drop queued frames that exceed ``max_frame_age``; all but the newest even if they will ``latency`` seconds later."""
        if (limit := self.settings.max_frame_age) is not None:
            for frame in self._commands.pop_outdated(now + latency - limit, now - limit):
                self._emitter.drop_frame(frame.index, "late", now)

    def close(self, reason: str, now: float) -> None:
        """End the session: drop everything queued, report it, and emit the last event."""
        self._commands.clear()
        self._emitter.close(reason, now)

    def on_output(self, output: Output, now: float) -> None:
        """Emit the events of one output of the engine. ``now`` is in seconds on the server's clock."""
        self._emitter.on_output(output, now)

    def fail(self, message: str, code: str, *, server: bool = False, event_id: str | None = None) -> None:
        """Emit an ``error`` event; ``server`` marks a fault of the server rather than of a request."""
        self._emitter.emit_error(message, code, server=server, event_id=event_id)

    def drop_frame(self, index: int, reason: server_events.DropReason, now: float) -> None:
        """Finish a frame without a score."""
        self._emitter.drop_frame(index, reason, now)

    def reject_turn(self, number: int, error: Exception, code: str) -> None:
        """Report that the engine did not accept a turn."""
        self._emitter.reject_item(number, error, code)

    def emit(self, event: server_events.ServerEvent, subscriber: int | None = None) -> None:
        """Append an event; ``subscriber`` restricts it to one subscriber."""
        self.log.append(event, subscriber=subscriber)

    # Saved state

    @property
    def state(self) -> ConversationState:
        """The current state, from which the conversation can be restored."""
        return ConversationState(
            self.settings, self._emitter.state, self.consumed_count, self.started, self.ended, self._last_frame,
            self._first_pts, self._item_count, self._turn_count, self._frame_count, self._sampler.next_tick,
            self.ends_with_source,
        )  # fmt: skip

    def restore(
        self,
        state: ConversationState,
        waiting: Sequence[commands.Command],
        items: Mapping[int, server_events.Item],
        now: float,
    ) -> None:
        """Restore a saved state with its queued commands ``waiting``. A reply that was being generated is finished as cut.

        ``items`` are the unread turns by number. Open frames without a queued command are dropped, so that the client does
        not wait for them.
        """
        self.settings = state.settings
        self._emitter.restore(state.emitter, items, now)
        self._emitter.scores, self._emitter.ack = state.settings.scores, state.settings.ack
        self.consumed_count, self.started, self.ended = state.consumed, state.started, state.ended
        self._last_frame, self._first_pts = state.last, state.origin
        self._item_count, self._turn_count, self._frame_count = state.items, state.turns, state.frames
        self.ends_with_source = state.ends_with_source
        self._sampler = FrameSampler(state.settings.fps, state.tick)
        queued = {command.index for command in waiting if isinstance(command, commands.ScoreFrame)}
        for index in [index for index in self._emitter.frames.unfinished_indices() if index not in queued]:
            self._emitter.drop_frame(index, "late", now)
        for command in waiting:  # includes the frames that were in the engine, so the queue can overflow
            if (dropped := self._commands.put(command)) is not None:
                self._emitter.drop_frame(dropped.index, "late", now)
        self._emitter.interrupt_reply(now)

    def to_session(self, **details: Any) -> server_events.Session:
        """Return the session for the wire. ``details`` are sent on creation only: ``limits``, ``resume_token``, ``query``."""
        settings = self.settings.to_wire()
        duet = server_events.SessionDuet(**settings.pop("duet"), **details)
        return server_events.Session(id=self.id, duet=duet, **settings)
