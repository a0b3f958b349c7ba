"""Converts the engine's outputs of one session into events for the client, and tracks its frames and replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmduet.events import (
    SPEAK_POLICY,
    ContextRead,
    Output,
    QueryRead,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionFailed,
    SessionWarning,
    StreamEnded,
)
from mmduet.options import SpeakOptions
from mmduet.protocol import server_events
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import AcceptedFrame, FrameTracker, FrameTrackerState
from mmduet.protocol.session.journal import JournalWriter, NullJournalWriter
from mmduet.text import shorten_words

FrameOutcome = Scores | server_events.DropReason
SERVER_RESTARTED = "server_restarted"
"""Reason of a reply that was cut by the end of the previous server and is generated again."""
RESPONSE_STATUS: dict[str, server_events.ResponseStatus] = {
    "stop": "completed",
    "length": "incomplete",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class RequestedReply:
    """A reply requested by the client and not started: ``metadata`` for its events, and when the server got the request."""

    metadata: dict[str, str] | None
    requested_at: float


@dataclass
class ActiveReply:
    """A reply that is being generated.

    Attributes:
        number: Number of the reply in the engine.
        response_id: Id of the response on the wire.
        item_id: Id of the reply's item on the wire.
        trigger: The frame that triggered the reply, with its scores.
        requested_at: When the frame or the client's request arrived, in seconds on the server's clock.
        metadata: The client's metadata, repeated in the reply's events.
        text: Text generated so far.
        first_delta_at: When the first text was emitted, on the server's clock.
    """

    number: int
    response_id: str
    item_id: str
    trigger: server_events.ResponseDuet
    requested_at: float
    metadata: dict[str, str] | None = None
    text: str = ""
    first_delta_at: float | None = None


@dataclass(frozen=True)
class EventEmitterState:
    """Saved state of an emitter. ``unread_turns`` are the numbers of turns that the model has not read."""

    frames: FrameTrackerState[FrameOutcome]
    unread_turns: tuple[int, ...] = ()
    requested: tuple[RequestedReply, ...] = ()
    closed: server_events.SessionClosed | None = None
    speaking: ActiveReply | None = None
    reply_count: int = 0
    reply_due: bool = False
    last_scored: tuple[AcceptedFrame, Scores] | None = None
    last_item: str | None = None
    duration: float = 0.0
    warnings: tuple[str, ...] = ()  # codes of the warnings that have been sent

    @property
    def reply_pending(self) -> bool:
        """Whether an unfinished reply must be generated again. A queued request of the client replaces it."""
        return (self.reply_due or self.speaking is not None) and not self.requested


class EventEmitter:
    """Writes a session's events to its log. For ``scores`` and ``ack`` see ``SessionSettings``."""

    def __init__(self, session_id: str, log: EventLog, journal: JournalWriter | None = None) -> None:
        self.log = log
        self.frames: FrameTracker[FrameOutcome] = FrameTracker()
        self.scores = self.ack = True
        self.unread_turns: deque[tuple[int, server_events.Item]] = deque()  # with their numbers
        self.requested: deque[RequestedReply] = deque()
        self.closed_event: server_events.SessionClosed | None = None
        self.speaking: ActiveReply | None = None
        self.reply_count = 0
        self.reply_due = False  # the last scored frame triggered a reply that has not started
        self._reply_recovered = False  # a reply triggered or cut on the previous server is still due
        self._journal = journal or NullJournalWriter()
        self._session_id = session_id
        self._last_scored: tuple[AcceptedFrame, Scores] | None = None
        self._last_item: str | None = None
        self._duration = 0.0
        self._warnings: tuple[str, ...] = ()

    @property
    def state(self) -> EventEmitterState:
        """The current state, from which an emitter can be restored."""
        return EventEmitterState(
            self.frames.state,
            tuple(number for number, _ in self.unread_turns),
            tuple(self.requested),
            self.closed_event,
            self.speaking,
            self.reply_count,
            self.reply_due or self._reply_recovered,
            self._last_scored,
            self._last_item,
            self._duration,
            self._warnings,
        )

    def restore(self, state: EventEmitterState, items: Mapping[int, server_events.Item], now: float) -> None:
        """Restore a saved state. ``items`` are the unread turns by number; all waiting times restart at ``now``."""
        open_frames = tuple(replace(frame, received_at=now) for frame in state.frames.open)
        self.frames = FrameTracker(replace(state.frames, open=open_frames))
        self.unread_turns = deque((number, items[number]) for number in state.unread_turns if number in items)
        self.requested = deque(replace(request, requested_at=now) for request in state.requested)
        self.closed_event, self.speaking, self.reply_count = state.closed, state.speaking, state.reply_count
        self._reply_recovered = state.reply_pending
        self._last_scored, self._last_item, self._duration = state.last_scored, state.last_item, state.duration
        self._warnings = state.warnings

    def interrupt_reply(self, now: float) -> None:
        """Finish a reply that was cut by the end of the previous server, with the text emitted so far."""
        if self.closed_event is None:
            self._cut_reply(now, SERVER_RESTARTED)

    def _cut_reply(self, now: float, reason: str) -> None:
        if self.speaking is not None:
            cut = Reply(self.speaking.number, -1, 0.0, self.speaking.text, 0, "cancelled")
            self._finish_reply(cut, now, reason)

    # Turns

    def add_item(self, item: server_events.Item, number: int | None) -> None:
        """Report a turn of the client. ``number`` is None for a turn without text, which the model does not read."""
        self.log.append(server_events.ItemAdded(item=item, previous_item_id=self._last_item))
        self._last_item = item.id
        if number is not None:
            self.unread_turns.append((number, item))
        else:
            self.log.append(server_events.ItemDone(item=item))

    def reject_item(self, number: int, error: Exception, code: str) -> None:
        """Report that the engine rejected a turn, and forget it."""
        if self.closed_event is not None:
            return
        name = next((item.id for known, item in self.unread_turns if known == number), "")
        self.unread_turns = deque(unread for unread in self.unread_turns if unread[0] != number)
        self._journal.turn_rejected(number)
        self.emit_error(f"item {name}: {error}", code, param="item")

    def emit_error(
        self,
        message: str,
        code: str,
        *,
        param: str | None = None,
        event_id: str | None = None,
        server: bool = False,
    ) -> None:
        """Emit an ``error`` event. ``server`` marks a fault of the server rather than of a request."""
        kind: Any = "server_error" if server else "invalid_request_error"
        error = server_events.Error(
            type=kind, code=code, message=shorten_words(message), param=param, event_id=event_id
        )
        self.log.append(server_events.ErrorEvent(error=error))

    # Frames

    def drop_frame(self, index: int, reason: server_events.DropReason, now: float) -> None:
        """Finish a frame without a score."""
        self._finish_frame(index, reason, now)

    def _finish_frame(self, index: int, outcome: FrameOutcome, now: float) -> None:
        (self._journal.frame_scored if isinstance(outcome, Scores) else self._journal.frame_dropped)(index)
        for frame, released in self.frames.finish(index, outcome):
            if isinstance(released, Scores):
                self._emit_scores(frame, released, now)
            else:
                self.frames.counts[released] += 1
                self.log.append(server_events.FrameDropped(seq=frame.seq, pts=frame.pts, reason=released))

    def _emit_scores(self, frame: AcceptedFrame, scores: Scores, now: float) -> None:
        self.frames.counts["scored"] += 1
        self._duration = frame.time
        if not (self.ack or scores.speak):
            return
        self.log.append(
            server_events.FrameScored(
                seq=frame.seq,
                pts=frame.pts,
                informative=scores.informative if self.scores else None,
                relevance=scores.relevance if self.scores else None,
                decision="speak" if scores.speak else "listen",
                age_ms=to_milliseconds(now - frame.received_at),
            )
        )

    # Outputs of the engine

    def on_output(self, output: Output, now: float) -> None:
        """Emit the events of one output. ``now`` is in seconds on the server's clock."""
        match output:
            case Scores():
                frame = self.frames.find(output.frame)
                if frame is not None:
                    self._last_scored, self.reply_due = (frame, output), output.speak
                    self._reply_recovered = False  # a reply that is due is generated before the next frame is scored
                    self._finish_frame(frame.index, output, now)
            case QueryRead() | ContextRead():
                self._finish_item()
            case ReplyStarted():
                self._begin_reply(output, now)
            case ReplyDelta():
                self._append_text(output.text, now)
            case Reply():
                self._finish_reply(output, now)
            case SessionWarning():
                self._warn(output)
            case StreamEnded():
                self.close("ended", now)
            case SessionFailed():
                self.emit_error(output.message, output.code, server=True)
                self.close("failed", now)

    def check_speak_policy(self, speak: SpeakOptions) -> None:
        """Emit a warning if the policy never fires, or at every frame, regardless of the scores."""
        if (reason := speak.find_extreme()) is not None:
            self._warn(SessionWarning(SPEAK_POLICY, reason, 0.0))

    def _warn(self, warning: SessionWarning) -> None:
        """Emit a warning, unless one with its code was emitted before, here or by the previous server."""
        if warning.code not in self._warnings:
            self._warnings = (*self._warnings, warning.code)
            self.log.append(server_events.SessionWarningEvent(code=warning.code, message=warning.message))

    def close(self, reason: Any, now: float) -> None:
        """Drop all unfinished frames and emit the session's last event."""
        if self.closed_event is not None:
            return
        self._cut_reply(now, "session_closed")
        for index in self.frames.unfinished_indices():
            self._finish_frame(index, "closed", now)
        self.closed_event = server_events.SessionClosed(
            reason=reason, frames=dict(self.frames.counts), duration_s=self._duration
        )
        self.log.append(self.closed_event)

    def _finish_item(self) -> None:
        if self.unread_turns:
            number, item = self.unread_turns.popleft()
            self._journal.turn_read(number)
            self.log.append(server_events.ItemDone(item=item))

    def _begin_reply(self, output: ReplyStarted, now: float) -> None:
        recovered, self._reply_recovered = self._reply_recovered, False
        request = self.requested.popleft() if output.forced and self.requested and not recovered else None
        if request is not None:
            self._journal.reply_started()
        frame, scores = self._last_scored or (None, None)
        self.speaking = ActiveReply(
            number=output.reply,
            response_id=f"resp_{self._session_id}_{self.reply_count}",
            item_id=f"item_{self._session_id}_r{self.reply_count}",
            trigger=server_events.ResponseDuet(
                trigger_seq=frame.seq if frame else None,
                trigger_pts=frame.pts if frame else None,
                informative=scores.informative if scores else None,
                relevance=scores.relevance if scores else None,
                forced=output.forced,
            ),
            requested_at=request.requested_at if request else frame.received_at if frame else now,
            metadata=request.metadata if request else None,
        )
        self.reply_count, self.reply_due = self.reply_count + 1, False
        self._emit_response_created(self.speaking)

    def _emit_response_created(self, speaking: ActiveReply) -> None:
        item = server_events.Item(id=speaking.item_id, status="in_progress", role="assistant")
        self.log.append(server_events.ResponseCreated(response=self._response(speaking, "in_progress")))
        self.log.append(server_events.OutputItemAdded(response_id=speaking.response_id, item=item))
        self.log.append(server_events.ItemAdded(item=item, previous_item_id=self._last_item))
        self.log.append(server_events.ContentPartAdded(response_id=speaking.response_id, item_id=speaking.item_id))
        self._last_item = speaking.item_id

    def _append_text(self, text: str, now: float) -> None:
        speaking = self.speaking
        assert speaking is not None, "the engine starts a reply before it emits text"
        if speaking.first_delta_at is None:
            speaking.first_delta_at = now
        speaking.text += text
        self.log.append(server_events.TextDelta(response_id=speaking.response_id, item_id=speaking.item_id, delta=text))

    def _finish_reply(self, output: Reply, now: float, reason: str | None = None) -> None:
        speaking, self.speaking = self.speaking, None
        assert speaking is not None, "the engine starts a reply before it finishes it"
        if reason is None:
            self._journal.reply_finished(output.text)
        ids: dict[str, Any] = {"response_id": speaking.response_id, "item_id": speaking.item_id}
        status = RESPONSE_STATUS[output.finish]
        item_status: server_events.ResponseStatus = "completed" if status == "completed" else "incomplete"
        content = (server_events.TextPart(text=output.text).model_dump(),)
        item = server_events.Item(id=speaking.item_id, status=item_status, role="assistant", content=content)
        self.log.append(server_events.TextDone(**ids, text=output.text))
        self.log.append(server_events.ContentPartDone(**ids, part={"type": "text", "text": output.text}))
        self.log.append(server_events.OutputItemDone(response_id=speaking.response_id, item=item))
        self.log.append(server_events.ItemDone(item=item))
        usage, timing = _usage(output), _timing(speaking, now)
        response = self._response(speaking, status, (item,), usage, timing, reason)
        self.log.append(server_events.ResponseDone(response=response))

    def _response(
        self,
        speaking: ActiveReply,
        status: server_events.ResponseStatus,
        output: tuple[server_events.Item, ...] = (),
        usage: server_events.Usage | None = None,
        timing: server_events.Timing | None = None,
        reason: str | None = None,
    ) -> server_events.Response:
        reasons = {"incomplete": "max_output_tokens", "cancelled": "client_cancelled"}
        details = {"type": status, "reason": reason or reasons[status]} if status in reasons else None
        return server_events.Response(
            id=speaking.response_id,
            status=status,
            status_details=details,
            conversation_id=f"conv_{self._session_id}",
            output=output,
            metadata=speaking.metadata,
            usage=usage,
            duet=speaking.trigger.model_copy(update={"timing": timing}),
        )


def _usage(reply: Reply) -> server_events.Usage:
    total = reply.context_tokens + reply.tokens
    return server_events.Usage(input_tokens=reply.context_tokens, output_tokens=reply.tokens, total_tokens=total)


def _timing(reply: ActiveReply, now: float) -> server_events.Timing:
    start, first = reply.requested_at, reply.first_delta_at
    first_delta_ms = None if first is None else to_milliseconds(first - start)
    return server_events.Timing(first_delta_ms=first_delta_ms, done_ms=to_milliseconds(now - start))


def to_milliseconds(seconds: float) -> float:
    """Convert seconds to milliseconds, rounded to two decimals."""
    return round(seconds * 1000, 2)
