"""Turns what the engine says of one session into the events that its client is told; keeps the books of frames and replies."""

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
from mmduet.protocol import server_events as told
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import Accepted, Books, Ledger
from mmduet.protocol.session.journal import NoScribe, Scribe

End = Scores | told.DropReason
STATUS: dict[str, told.Status] = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}


@dataclass(frozen=True)
class Asked:
    """A reply that the client asked for: what it wants repeated in its events, and when it asked, on the server's clock."""

    metadata: dict[str, str] | None
    when: float


@dataclass
class Speaking:
    """A reply that is being told."""

    number: int
    response: str
    item: str
    trigger: told.ResponseDuet
    since: float
    metadata: dict[str, str] | None = None
    text: str = ""
    first_delta: float | None = None


@dataclass(frozen=True)
class NarratorState:
    """Where a narrator stands, between two events."""

    books: Books[Scores | told.DropReason]
    unread: tuple[int, ...] = ()  # numbers of turns
    asked: tuple[Asked, ...] = ()
    closed: told.SessionClosed | None = None
    speaking: Speaking | None = None
    spoken: int = 0
    owing: bool = False
    watched: tuple[Accepted, Scores] | None = None
    last_item: str | None = None
    duration: float = 0.0

    @property
    def owes(self) -> bool:
        """Whether a reply had been set off that was not complete; one that was asked for takes its place."""
        return (self.owing or self.speaking is not None) and not self.asked


class Narrator:
    """Writes a session's events. ``scores`` and ``ack`` say what is told of frames (see ``settings.Settings``)."""

    def __init__(self, session_id: str, log: EventLog, scribe: Scribe | None = None) -> None:
        self.log = log
        self.ledger: Ledger[End] = Ledger()
        self.scores = self.ack = True
        self.unread: deque[tuple[int, told.ItemTold]] = deque()  # by number
        self.asked: deque[Asked] = deque()
        self.closed: told.SessionClosed | None = None
        self.speaking: Speaking | None = None
        self.spoken = 0
        self.owing = False  # the latest frame has set off a reply that has not begun
        self._reviving = False  # a reply is owed that was set off, or cut, on a server that is no more
        self._scribe = scribe or NoScribe()
        self._session_id = session_id
        self._watched: tuple[Accepted, Scores] | None = None
        self._last_item: str | None = None
        self._duration = 0.0

    @property
    def state(self) -> NarratorState:
        """Where it stands."""
        return NarratorState(
            self.ledger.books,
            tuple(number for number, _ in self.unread),
            tuple(self.asked),
            self.closed,
            self.speaking,
            self.spoken,
            self.owing or self._reviving,
            self._watched,
            self._last_item,
            self._duration,
        )

    def restore(self, state: NarratorState, items: Mapping[int, told.ItemTold], now: float) -> None:
        """Stand where another stood; ``items`` are the turns that were not read, and ``now`` all begins to wait anew."""
        books = state.books
        self.ledger = Ledger(replace(books, open=tuple(replace(frame, came=now) for frame in books.open)))
        self.unread = deque((number, items[number]) for number in state.unread if number in items)
        self.asked = deque(replace(asked, when=now) for asked in state.asked)
        self.closed, self.speaking, self.spoken = state.closed, state.speaking, state.spoken
        self._reviving = state.owes
        self._watched, self._last_item, self._duration = state.watched, state.last_item, state.duration

    def interrupted(self, now: float) -> None:
        """A reply that was being told when its server died is at its end, as far as it came."""
        if self.closed is None:
            self._cut(now, "server_restarted")

    def _cut(self, now: float, reason: str) -> None:
        if self.speaking is not None:
            cut = Reply(self.speaking.number, -1, 0.0, self.speaking.text, 0, "cancelled")
            self._ends(cut, now, reason)

    # turns

    def added(self, item: told.ItemTold, number: int | None) -> None:
        """A turn of the client's is on the timeline; ``number`` where it has words that the model has yet to read."""
        self.log.append(told.ItemAdded(item=item, previous_item_id=self._last_item))
        self._last_item = item.id
        if number is not None:
            self.unread.append((number, item))
        else:
            self.log.append(told.ItemDone(item=item))

    def refused(self, number: int, error: Exception, code: str) -> None:
        """A turn of the client's cannot be read after all."""
        if self.closed is not None:
            return
        name = next((item.id for known, item in self.unread if known == number), "")
        self.unread = deque(unread for unread in self.unread if unread[0] != number)
        self._scribe.refused(number)
        self.error(f"item {name}: {error}", code, param="item")

    def error(
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
        error = told.ErrorTold(type=kind, code=code, message=message, param=param, event_id=event_id)
        self.log.append(told.ErrorEvent(error=error))

    # frames

    def dropped(self, index: int, reason: told.DropReason, now: float) -> None:
        """A frame is not going to be watched."""
        self._frame_ends(index, reason, now)

    def _frame_ends(self, index: int, end: End, now: float) -> None:
        (self._scribe.watched if isinstance(end, Scores) else self._scribe.gone)(index)
        for frame, how in self.ledger.end(index, end):
            if isinstance(how, Scores):
                self._tell_scores(frame, how, now)
            else:
                self.ledger.counts[how] += 1
                self.log.append(told.FrameDropped(seq=frame.seq, pts=frame.pts, reason=how))

    def _tell_scores(self, frame: Accepted, scores: Scores, now: float) -> None:
        self.ledger.counts["scored"] += 1
        self._duration = frame.time
        if not (self.ack or scores.speak):
            return
        self.log.append(
            told.FrameScored(
                seq=frame.seq,
                pts=frame.pts,
                informative=scores.informative if self.scores else None,
                relevance=scores.relevance if self.scores else None,
                decision="speak" if scores.speak else "listen",
                age_ms=milliseconds(now - frame.came),
            )
        )

    # what the engine says

    def tell(self, output: Output, now: float) -> None:
        """Write the events of one output; ``now`` on the server's clock, in seconds."""
        match output:
            case Scores():
                frame = self.ledger.find(output.frame)
                if frame is not None:
                    self._watched, self.owing = (frame, output), output.speak
                    self._frame_ends(frame.index, output, now)
            case QueryRead() | ContextRead():
                self._read()
            case ReplyStarted():
                self._begins(output, now)
            case ReplyDelta():
                self._writes(output.text, now)
            case Reply():
                self._ends(output, now)
            case StreamEnded():
                self.close("ended", now)
            case SessionFailed():
                self.error(output.message, output.code, server=True)
                self.close("failed", now)

    def close(self, reason: Any, now: float) -> None:
        """The last word: frames that were not watched are told as dropped before it."""
        if self.closed is not None:
            return
        self._cut(now, "session_closed")
        for index in self.ledger.unended():
            self._frame_ends(index, "closed", now)
        self.closed = told.SessionClosed(reason=reason, frames=dict(self.ledger.counts), duration_s=self._duration)
        self.log.append(self.closed)

    def _read(self) -> None:
        if self.unread:
            number, item = self.unread.popleft()
            self._scribe.read(number)
            self.log.append(told.ItemDone(item=item))

    def _begins(self, output: ReplyStarted, now: float) -> None:
        reviving, self._reviving = self._reviving, False
        asked = self.asked.popleft() if output.forced and self.asked and not reviving else None
        if asked is not None:
            self._scribe.begun()
        frame, scores = self._watched or (None, None)
        self.speaking = Speaking(
            number=output.reply,
            response=f"resp_{self._session_id}_{self.spoken}",
            item=f"item_{self._session_id}_r{self.spoken}",
            trigger=told.ResponseDuet(
                trigger_seq=frame.seq if frame else None,
                trigger_pts=frame.pts if frame else None,
                informative=scores.informative if scores else None,
                relevance=scores.relevance if scores else None,
                forced=output.forced,
            ),
            since=asked.when if asked else frame.came if frame else now,
            metadata=asked.metadata if asked else None,
        )
        self.spoken, self.owing = self.spoken + 1, False
        self._tell_beginning(self.speaking)

    def _tell_beginning(self, speaking: Speaking) -> None:
        item = told.ItemTold(id=speaking.item, status="in_progress", role="assistant")
        self.log.append(told.ResponseCreated(response=self._response(speaking, "in_progress")))
        self.log.append(told.OutputItemAdded(response_id=speaking.response, item=item))
        self.log.append(told.ItemAdded(item=item, previous_item_id=self._last_item))
        self.log.append(told.ContentPartAdded(response_id=speaking.response, item_id=speaking.item))
        self._last_item = speaking.item

    def _writes(self, text: str, now: float) -> None:
        speaking = self.speaking
        assert speaking is not None, "the engine starts a reply before it writes it"
        if speaking.first_delta is None:
            speaking.first_delta = now
        speaking.text += text
        self.log.append(told.TextDelta(response_id=speaking.response, item_id=speaking.item, delta=text))

    def _ends(self, output: Reply, now: float, reason: str | None = None) -> None:
        speaking, self.speaking = self.speaking, None
        assert speaking is not None, "the engine starts a reply before it ends it"
        if reason is None:
            self._scribe.said(output.text)
        ids: dict[str, Any] = {"response_id": speaking.response, "item_id": speaking.item}
        status = STATUS[output.finish]
        item_status: told.Status = "completed" if status == "completed" else "incomplete"
        content = (told.TextPart(text=output.text).model_dump(),)
        item = told.ItemTold(id=speaking.item, status=item_status, role="assistant", content=content)
        self.log.append(told.TextDone(**ids, text=output.text))
        self.log.append(told.ContentPartDone(**ids, part={"type": "text", "text": output.text}))
        self.log.append(told.OutputItemDone(response_id=speaking.response, item=item))
        self.log.append(told.ItemDone(item=item))
        usage = told.Usage(
            input_tokens=output.context_tokens,
            output_tokens=output.tokens,
            total_tokens=output.context_tokens + output.tokens,
        )
        timing = told.Timing(
            first_delta_ms=None
            if speaking.first_delta is None
            else milliseconds(speaking.first_delta - speaking.since),
            done_ms=milliseconds(now - speaking.since),
        )
        response = self._response(speaking, status, (item,), usage, timing, reason)
        self.log.append(told.ResponseDone(response=response))

    def _response(
        self,
        speaking: Speaking,
        status: told.Status,
        output: tuple[told.ItemTold, ...] = (),
        usage: told.Usage | None = None,
        timing: told.Timing | None = None,
        reason: str | None = None,
    ) -> told.ResponseTold:
        reasons = {"incomplete": "max_output_tokens", "cancelled": "client_cancelled"}
        details = {"type": status, "reason": reason or reasons[status]} if status in reasons else None
        return told.ResponseTold(
            id=speaking.response,
            status=status,
            status_details=details,
            conversation_id=f"conv_{self._session_id}",
            output=output,
            metadata=speaking.metadata,
            usage=usage,
            duet=speaking.trigger.model_copy(update={"timing": timing}),
        )


def milliseconds(seconds: float) -> float:
    """To a hundredth."""
    return round(seconds * 1000, 2)
