"""Turns what the engine says of one session into the events for its client; keeps the books of frames and replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmduet.events import (
    ContextRead,
    Output,
    QueryRead,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionFailed,
    StreamEnded,
)
from mmduet.protocol import server_events
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import AcceptedFrame, FrameTracker, FrameTrackerState
from mmduet.protocol.session.journal import JournalWriter, NullJournalWriter

FrameOutcome = Scores | server_events.DropReason
RESPONSE_STATUS: dict[str, server_events.ResponseStatus] = {
    "stop": "completed",
    "length": "incomplete",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class RequestedReply:
    """A reply that the client asked for: what it wants repeated in its events, and when it asked, on the server's clock."""

    metadata: dict[str, str] | None
    requested_at: float


@dataclass
class ActiveReply:
    """A reply that is being told."""

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
    """Where a narrator stands, between two events."""

    frames: FrameTrackerState[FrameOutcome]
    unread_turns: tuple[int, ...] = ()  # numbers of turns
    requested: tuple[RequestedReply, ...] = ()
    closed: server_events.SessionClosed | None = None
    speaking: ActiveReply | None = None
    reply_count: int = 0
    reply_due: bool = False
    last_scored: tuple[AcceptedFrame, Scores] | None = None
    last_item: str | None = None
    duration: float = 0.0

    @property
    def reply_pending(self) -> bool:
        """Whether a reply had been set off that was not complete; one that was asked for takes its place."""
        return (self.reply_due or self.speaking is not None) and not self.requested


class EventEmitter:
    """Writes a session's events. ``scores`` and ``ack`` select which events frames get (see ``settings.Settings``)."""

    def __init__(self, session_id: str, log: EventLog, journal: JournalWriter | None = None) -> None:
        self.log = log
        self.frames: FrameTracker[FrameOutcome] = FrameTracker()
        self.scores = self.ack = True
        self.unread_turns: deque[tuple[int, server_events.Item]] = deque()  # by number
        self.requested: deque[RequestedReply] = deque()
        self.closed_event: server_events.SessionClosed | None = None
        self.speaking: ActiveReply | None = None
        self.reply_count = 0
        self.reply_due = False  # the latest frame has set off a reply that has not begun
        self._reply_recovered = False  # a reply is owed that was set off, or cut, on a server that is no more
        self._journal = journal or NullJournalWriter()
        self._session_id = session_id
        self._last_scored: tuple[AcceptedFrame, Scores] | None = None
        self._last_item: str | None = None
        self._duration = 0.0

    @property
    def state(self) -> EventEmitterState:
        """Where it stands."""
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
        )

    def restore(self, state: EventEmitterState, items: Mapping[int, server_events.Item], now: float) -> None:
        """Stand where another stood; ``items`` are the turns that were not read, and ``now`` all begins to wait again."""
        books = state.frames
        self.frames = FrameTracker(replace(books, open=tuple(replace(frame, received_at=now) for frame in books.open)))
        self.unread_turns = deque((number, items[number]) for number in state.unread_turns if number in items)
        self.requested = deque(replace(request, requested_at=now) for request in state.requested)
        self.closed_event, self.speaking, self.reply_count = state.closed, state.speaking, state.reply_count
        self._reply_recovered = state.reply_pending
        self._last_scored, self._last_item, self._duration = state.last_scored, state.last_item, state.duration

    def interrupt_reply(self, now: float) -> None:
        """A reply that was being told when its server died is at its end, as far as it came."""
        if self.closed_event is None:
            self._cut_reply(now, "server_restarted")

    def _cut_reply(self, now: float, reason: str) -> None:
        if self.speaking is not None:
            cut = Reply(self.speaking.number, -1, 0.0, self.speaking.text, 0, "cancelled")
            self._finish_reply(cut, now, reason)

    # turns

    def add_item(self, item: server_events.Item, number: int | None) -> None:
        """A turn of the client's is on the timeline; ``number`` where it has words that the model has yet to read."""
        self.log.append(server_events.ItemAdded(item=item, previous_item_id=self._last_item))
        self._last_item = item.id
        if number is not None:
            self.unread_turns.append((number, item))
        else:
            self.log.append(server_events.ItemDone(item=item))

    def reject_item(self, number: int, error: Exception, code: str) -> None:
        """A turn of the client's cannot be read after all."""
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
        """Tell that something could not be done."""
        kind: Any = "server_error" if server else "invalid_request_error"
        error = server_events.Error(type=kind, code=code, message=message, param=param, event_id=event_id)
        self.log.append(server_events.ErrorEvent(error=error))

    # frames

    def drop_frame(self, index: int, reason: server_events.DropReason, now: float) -> None:
        """A frame is not going to be watched."""
        self._finish_frame(index, reason, now)

    def _finish_frame(self, index: int, outcome: FrameOutcome, now: float) -> None:
        (self._journal.frame_scored if isinstance(outcome, Scores) else self._journal.frame_dropped)(index)
        for frame, how in self.frames.finish(index, outcome):
            if isinstance(how, Scores):
                self._emit_scores(frame, how, now)
            else:
                self.frames.counts[how] += 1
                self.log.append(server_events.FrameDropped(seq=frame.seq, pts=frame.pts, reason=how))

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

    # what the engine says

    def on_output(self, output: Output, now: float) -> None:
        """Write the events of one output; ``now`` on the server's clock, in seconds."""
        match output:
            case Scores():
                frame = self.frames.find(output.frame)
                if frame is not None:
                    self._last_scored, self.reply_due = (frame, output), output.speak
                    self._finish_frame(frame.index, output, now)
            case QueryRead() | ContextRead():
                self._finish_item()
            case ReplyStarted():
                self._begin_reply(output, now)
            case ReplyDelta():
                self._append_text(output.text, now)
            case Reply():
                self._finish_reply(output, now)
            case StreamEnded():
                self.close("ended", now)
            case SessionFailed():
                self.emit_error(output.message, output.code, server=True)
                self.close("failed", now)

    def close(self, reason: Any, now: float) -> None:
        """The last word: frames that were not watched are reported as dropped before it."""
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
        reviving, self._reply_recovered = self._reply_recovered, False
        asked = self.requested.popleft() if output.forced and self.requested and not reviving else None
        if asked is not None:
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
            requested_at=asked.requested_at if asked else frame.received_at if frame else now,
            metadata=asked.metadata if asked else None,
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
        assert speaking is not None, "the engine starts a reply before it writes it"
        if speaking.first_delta_at is None:
            speaking.first_delta_at = now
        speaking.text += text
        self.log.append(server_events.TextDelta(response_id=speaking.response_id, item_id=speaking.item_id, delta=text))

    def _finish_reply(self, output: Reply, now: float, reason: str | None = None) -> None:
        speaking, self.speaking = self.speaking, None
        assert speaking is not None, "the engine starts a reply before it ends it"
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
        usage = server_events.Usage(
            input_tokens=output.context_tokens,
            output_tokens=output.tokens,
            total_tokens=output.context_tokens + output.tokens,
        )
        timing = server_events.Timing(
            first_delta_ms=None
            if speaking.first_delta_at is None
            else to_milliseconds(speaking.first_delta_at - speaking.requested_at),
            done_ms=to_milliseconds(now - speaking.requested_at),
        )
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


def to_milliseconds(seconds: float) -> float:
    """To a hundredth."""
    return round(seconds * 1000, 2)
