"""One session as its server sees it: messages in, commands for the engine and events for the client out; sans I/O.

``receive`` takes what a client sent, ``take`` hands out what is to be done next, ``narrator.tell`` takes what the engine said;
``narrator.log`` holds what the client is to receive. No sockets, no clock (``now`` is given), no randomness, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmduet.duet import Role, check_no_markers
from mmduet.errors import CapacityError, FormatError, OptionError, ProtocolError
from mmduet.events import Output
from mmduet.protocol import client_events, frames, server_events
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation_state import ConversationState
from mmduet.protocol.session.event_emitter import EventEmitter, RequestedReply
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import AcceptedFrame
from mmduet.protocol.session.journal import JournalWriter, NullJournalWriter
from mmduet.protocol.session.limits import ProtocolAbuse, SessionLimits
from mmduet.protocol.session.settings import SessionSettings
from mmduet.video.network import redact
from mmduet.video.sampling import FrameSampler

STILL_IMAGE_FPS = 2.0
"""How far apart stills are put where the session takes every frame."""


class Conversation:
    """The state of one session's conversation, over all its sockets; a ``scribe`` writes down what would be missed."""

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
        self.consumed_count = 0  # messages of the client's
        self.started = False  # something has been handed to the engine, or waits for it
        self.ended = False  # the client has said that no more frames come
        self._limits, self._check_admission, self._journal = limits, admit, journal or NullJournalWriter()
        if journal is not None:
            self.log.on_entry = journal.event_emitted
        self._commands = commands.CommandQueue(limits.max_waiting_frames, limits.max_waiting_turns)
        self._sampler = FrameSampler(settings.fps)
        self._last_frame: AcceptedFrame | None = None
        self._first_pts: int | None = None
        self.ends_with_source = False  # when nothing more is pulled, the session ends
        self._item_count = self._turn_count = self._frame_count = 0
        self._message_credit, self._credited_at = float(limits.burst), 0.0

    @property
    def log(self) -> EventLog:
        """The numbered events for the client."""
        return self._emitter.log

    @property
    def closed(self) -> server_events.SessionClosed | None:
        """The session's last event, None while the session is open."""
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
        """Return an accepted frame that has not finished, None for any other index."""
        return self._emitter.frames.find(index)

    # what the client sends

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one message, in the client's order. Errors are emitted as events; raises ``ProtocolAbuse`` for a flood."""
        self._check_message_rate(now)
        self.consumed_count += 1
        if self._emitter.closed_event is not None:
            return
        try:
            if isinstance(message, bytes):
                self._accept_frame(frames.unpack_frame(message), now)
            else:
                self._handle_event(client_events.parse_client_event(message), now)
        except ProtocolError as error:
            self._emitter.emit_error(str(error), error.code, param=error.param, event_id=error.event_id)

    def _check_message_rate(self, now: float) -> None:
        earned = (now - self._credited_at) * self._limits.messages_per_second
        self._message_credit = min(self._message_credit + max(earned, 0.0), float(self._limits.burst)) - 1
        self._credited_at = now
        if self._message_credit < 0:
            raise ProtocolAbuse(1008, f"more than {self._limits.messages_per_second:g} messages a second")

    def _handle_event(self, event: Any, now: float) -> None:
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
            case client_events.OpenSource() | client_events.CloseSource():
                self._queue_source(event)
            case _:
                self._handle_socket_event(event)

    def _handle_socket_event(self, event: client_events.Heartbeat | client_events.ResumeSession) -> None:
        if isinstance(event, client_events.ResumeSession):
            why = "session.resume is for the first message on a socket; reconnect to resume"
            raise ProtocolError(why, "not_first", event_id=event.event_id)
        self.log.append(server_events.HeartbeatAck(last_consumed_client_message_index=self.consumed_count - 1))

    def _queue_source(self, event: client_events.OpenSource | client_events.CloseSource) -> None:
        if isinstance(event, client_events.OpenSource):
            self._queue(commands.OpenSource(event.url, event.transport), event)
            self._journal.source_changed(redact(event.url))
        else:
            self._queue(commands.CloseSource(), event)

    def _update_settings(self, event: client_events.UpdateSession) -> None:
        before = self.settings
        self._check_not_ended(event.event_id)
        try:
            wanted = before.with_update(event.session, started=self.started)
            self._check_admission(wanted)
            if self.started and wanted.options.speak != before.options.speak:
                self._check_queue_capacity(event)
        except (ProtocolError, OptionError, FormatError, CapacityError) as error:
            param = error.param if isinstance(error, ProtocolError) else "session"
            code = "invalid_value" if isinstance(error, OptionError | FormatError) else error.code
            raise ProtocolError(str(error), code, param=param, event_id=event.event_id) from error
        self.settings = wanted
        self._emitter.scores, self._emitter.ack = wanted.scores, wanted.ack
        if wanted.fps != before.fps:
            self._sampler = FrameSampler(wanted.fps)
        if self.started and wanted.options.speak != before.options.speak:
            self._commands.put(commands.UpdatePolicy(wanted.options.speak))
        self.log.append(server_events.SessionUpdated(session=self.to_session()))

    def _append_turn(self, event: client_events.CreateItem, now: float) -> None:
        item, name = event.item, event.item.id or self._next_item_id()
        self._check_queue_capacity(event)
        pictures = [
            frames.image_from_base64(part.image_url, f"item.content.{place}.image_url")
            for place, part in enumerate(item.content)
            if isinstance(part, client_events.InputImage)
        ]
        try:
            check_no_markers(item.text, Role.USER if item.role == "user" else Role.SYSTEM)
        except FormatError as error:
            raise ProtocolError(str(error), "invalid_value", param="item.content", event_id=event.event_id) from error
        for picture in pictures:
            self._accept_frame(frames.WireFrame(None, self.next_pts(), picture), now)
        content = tuple(
            {"type": "input_image"} if isinstance(p, client_events.InputImage) else p.model_dump() for p in item.content
        )
        extras = None if item.duet.pts is None else {"pts": item.duet.pts}
        as_told = server_events.Item(id=name, role=item.role, content=content, duet=extras)
        if not item.text:
            return self._emitter.add_item(as_told, None)
        self._turn_count += 1
        turn = commands.AppendTurn(name, item.role, item.text, item.duet.keep, self._turn_count)
        self._emitter.add_item(as_told, turn.number)
        self._queue(turn, event)
        self._journal.turn_accepted(turn, as_told)
        return None

    def _queue_reply(self, event: client_events.CreateResponse, now: float) -> None:
        if self._emitter.requested:
            raise ProtocolError(
                "a reply has been asked for and has not begun; wait for response.created",
                "conversation_already_has_active_response",
                event_id=event.event_id,
            )
        self._queue(commands.SpeakNow(), event)
        self._emitter.requested.append(RequestedReply(event.response.metadata, now))

    def _queue_cancel(self, event: client_events.CancelResponse) -> None:
        speaking = self._emitter.speaking
        if speaking is None or event.response_id not in (None, speaking.response_id):
            raise ProtocolError(
                "no such reply is being written; there is nothing to cancel",
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
                f"{self._limits.max_waiting_turns} messages wait already; send it again when some have been answered",
                "too_many_waiting",
                event_id=event.event_id,
            )

    def _check_not_ended(self, event_id: str | None) -> None:
        if self.ended:
            raise ProtocolError(
                "input_frame.end was sent; open a new session for more", "session_ended", event_id=event_id
            )

    def _next_item_id(self) -> str:
        self._item_count += 1
        return f"item_{self.id}_{self._item_count}"

    # frames

    def _accept_frame(self, frame: frames.WireFrame, now: float, *, sampled: bool = False) -> None:
        self._check_not_ended(None)
        self.started = True
        seq = frame.seq if frame.seq is not None else self._last_frame.seq + 1 if self._last_frame else 0
        accepted = self._assign_time(seq, frame.pts, now)
        reason = self._drop_reason(accepted, sampled)
        self._emitter.frames.accept(accepted)
        if reason is not None:
            return self._emitter.drop_frame(accepted.index, reason, now)
        watch = commands.ScoreFrame(accepted.index, accepted.time, frame.image)
        self._journal.frame_accepted(watch)
        gone = self._commands.put(watch)
        if gone is not None:
            self._emitter.drop_frame(gone.index, "late", now)
        return None

    def _assign_time(self, seq: int, pts: int, now: float) -> AcceptedFrame:
        if self._first_pts is None:
            self._first_pts = pts
        self._frame_count += 1
        return AcceptedFrame(self._frame_count - 1, seq, pts, (pts - self._first_pts) / 1e6, now)

    def _drop_reason(self, frame: AcceptedFrame, sampled: bool) -> server_events.DropReason | None:
        """Why a frame is not to be watched, if it is not. The highest seq and the newest time stand."""
        last = self._last_frame
        if last is not None and frame.seq <= last.seq:
            return "duplicate"
        if last is not None and frame.pts <= last.pts:
            self._last_frame = replace(frame, pts=last.pts, time=last.time)
            return "duplicate" if frame.pts == last.pts else "late"
        self._last_frame = frame
        return None if sampled or self._sampler.accept(frame.time) else "rate"

    @property
    def waiting_frames(self) -> int:
        """Frames that have not been handed over."""
        return self._commands.frame_count

    def push_source_frame(self, pts: int, image: frames.EncodedImage, now: float) -> None:
        """A frame that the server has pulled for the client."""
        if not self.ended and self._emitter.closed_event is None:
            self._accept_frame(frames.WireFrame(None, pts, image), now, sampled=True)

    def next_pts(self) -> int:
        """Where a frame stands that follows the latest by one tick, in microseconds."""
        step = round(1e6 / (self.settings.fps or STILL_IMAGE_FPS))
        return self._last_frame.pts + step if self._last_frame else 0

    # what is to be done

    def next_command(self, frames_in_flight: int = 0) -> commands.Command | None:
        """The next command; None where none may be carried out while ``in_flight`` frames are with the engine."""
        return self._commands.take(frames_in_flight)

    def close(self, reason: str, now: float) -> None:
        """The session ends here: what waits is dropped and told, then the last event."""
        self._commands.clear()
        self._emitter.close(reason, now)

    # What the engine and the server report

    def on_output(self, output: Output, now: float) -> None:
        """Turn one output of the engine into events."""
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
        """Append an event; ``only`` restricts it to one subscriber."""
        self.log.append(event, subscriber=subscriber)

    # State that outlives the server

    @property
    def state(self) -> ConversationState:
        """Where it stands."""
        return ConversationState(
            self.settings,
            self._emitter.state,
            self.consumed_count,
            self.started,
            self.ended,
            self._last_frame,
            self._first_pts,
            self._item_count,
            self._turn_count,
            self._frame_count,
            self._sampler.next_tick,
            self.ends_with_source,
        )

    def restore(
        self,
        state: ConversationState,
        waiting: Sequence[commands.Command],
        items: Mapping[int, server_events.Item],
        now: float,
    ) -> None:
        """Stand where another stood, with what waited there; a reply that was being told there is at its end.

        ``items`` are the turns that were not read. A frame that was accepted and does not wait is reported as dropped: whatever
        became of it, the client is not left to wait for it.
        """
        self.settings = state.settings
        self._emitter.restore(state.emitter, items, now)
        self._emitter.scores, self._emitter.ack = state.settings.scores, state.settings.ack
        self.consumed_count, self.started, self.ended = state.consumed, state.started, state.ended
        self._last_frame, self._first_pts, self._item_count, self._frame_count = (
            state.last,
            state.origin,
            state.items,
            state.frames,
        )
        self._turn_count, self.ends_with_source = state.turns, state.ends_with_source
        self._sampler = FrameSampler(state.settings.fps, state.tick)
        kept = {command.index for command in waiting if isinstance(command, commands.ScoreFrame)}
        for index in [index for index in self._emitter.frames.unfinished_indices() if index not in kept]:
            self._emitter.drop_frame(index, "late", now)
        for command in waiting:
            if (gone := self._commands.put(command)) is not None:  # what was with the engine waits again, too
                self._emitter.drop_frame(gone.index, "late", now)
        self._emitter.interrupt_reply(now)

    # The session as the client sees it

    def to_session(self, **created: Any) -> server_events.Session:
        """The session as it is set, with what is sent when it is created: ``limits``, ``resume_token``, ``query``."""
        settings = self.settings.to_wire()
        duet = server_events.SessionDuet(**settings.pop("duet"), **created)
        return server_events.Session(id=self.id, duet=duet, **settings)
