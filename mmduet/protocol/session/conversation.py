"""One session as its server sees it: messages in, commands for the engine and events for the client out; sans I/O.

``receive`` takes what a client sent, ``take`` hands out what is to be done next, ``narrator.tell`` takes what the engine said;
``narrator.log`` holds what the client is to be told. No sockets, no clock (``now`` is given), no randomness, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from mmduet.duet import Role, refuse_markers
from mmduet.errors import CapacityError, FormatError, OptionError, ProtocolError
from mmduet.protocol import client_events as sent
from mmduet.protocol import frames
from mmduet.protocol import server_events as told
from mmduet.protocol.session import commands
from mmduet.protocol.session.event_emitter import Asked, Narrator, NarratorState
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.frame_tracker import Accepted
from mmduet.protocol.session.journal import NoScribe, Scribe
from mmduet.protocol.settings import Settings
from mmduet.video.rtsp import shown
from mmduet.video.sampling import Ticks

STILL_FPS = 2.0
"""How far apart stills are put where the session takes every frame."""


@dataclass(frozen=True)
class Bounds:
    """What one client may have waiting, and how fast it may send."""

    max_waiting_frames: int = 32
    max_waiting_turns: int = 64
    messages_per_second: float = 500.0
    burst: int = 2000


class ProtocolAbuse(Exception):  # noqa: N818 - it is no error of ours
    """The socket is closed with ``code`` and ``reason``; the session stays until its time to live."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class ConversationState:
    """Where a conversation stands, between two messages; what waits in its mailbox is not in it."""

    settings: Settings
    narrator: NarratorState
    consumed: int
    started: bool
    ended: bool
    last: Accepted | None
    origin: int | None
    items: int
    turns: int
    frames: int
    tick: int
    ends_with_source: bool

    @classmethod
    def parse(cls, text: str) -> ConversationState:
        """As ``text`` wrote it."""
        state: ConversationState = _state_adapter().validate_json(text)
        return state

    def text(self) -> bytes:
        """As JSON."""
        return _state_adapter().dump_json(self)


@cache
def _state_adapter() -> TypeAdapter[Any]:
    return TypeAdapter(ConversationState)


class Conversation:
    """The state of one session's conversation, over all its sockets; a ``scribe`` writes down what would be missed."""

    def __init__(
        self,
        session_id: str,
        settings: Settings,
        bounds: Bounds,
        log: EventLog | None = None,
        admit: Callable[[Settings], None] = lambda settings: None,
        scribe: Scribe | None = None,
    ) -> None:
        self.id = session_id
        self.settings = settings
        self.narrator = Narrator(session_id, log or EventLog(), scribe)
        self.narrator.scores, self.narrator.ack = settings.scores, settings.ack
        self.consumed = 0  # messages of the client's
        self.started = False  # something has been handed to the engine, or waits for it
        self.ended = False  # the client has said that no more frames come
        self._bounds, self._admit, self._scribe = bounds, admit, scribe or NoScribe()
        if scribe is not None:
            self.log.kept = scribe.event
        self._mailbox = commands.Mailbox(bounds.max_waiting_frames, bounds.max_waiting_turns)
        self._ticks = Ticks(settings.fps)
        self._last: Accepted | None = None
        self._origin: int | None = None
        self.ends_with_source = False  # when nothing more is pulled, the session ends
        self._items = self._turns = self._frames = 0
        self._allowance, self._allowed_at = float(bounds.burst), 0.0

    @property
    def log(self) -> EventLog:
        """What the client is told."""
        return self.narrator.log

    # what the client sends

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one message, in the client's order. What is wrong with it is told; raises ``ProtocolAbuse`` for a flood."""
        self._refuse_flood(now)
        self.consumed += 1
        if self.narrator.closed is not None:
            return
        try:
            if isinstance(message, bytes):
                self._frame(frames.unpack(message), now)
            else:
                self._event(sent.parse_client_event(message), now)
        except ProtocolError as error:
            self.narrator.error(str(error), error.code, param=error.param, event_id=error.event_id)

    def _refuse_flood(self, now: float) -> None:
        earned = (now - self._allowed_at) * self._bounds.messages_per_second
        self._allowance = min(self._allowance + max(earned, 0.0), float(self._bounds.burst)) - 1
        self._allowed_at = now
        if self._allowance < 0:
            raise ProtocolAbuse(1008, f"more than {self._bounds.messages_per_second:g} messages a second")

    def _event(self, event: Any, now: float) -> None:
        match event:
            case sent.SessionUpdateEvent():
                self._update(event)
            case sent.ItemCreate():
                self._turn(event, now)
            case sent.ResponseCreate():
                self._speak(event, now)
            case sent.ResponseCancel():
                self._cancel(event)
            case sent.FrameAppend():
                self._frame(frames.WireFrame(event.seq, event.pts, frames.from_base64(event.image, "image")), now)
            case sent.FrameEnd():
                self._end(event)
            case sent.SourceOpen() | sent.SourceClose():
                self._source(event)
            case _:
                self._of_the_socket(event)

    def _of_the_socket(self, event: sent.Heartbeat | sent.SessionResume) -> None:
        if isinstance(event, sent.SessionResume):
            why = "session.resume is for the first message on a socket; connect anew to resume"
            raise ProtocolError(why, "not_first", event_id=event.event_id)
        self.log.append(told.HeartbeatAck(last_consumed_client_message_index=self.consumed - 1))

    def _source(self, event: sent.SourceOpen | sent.SourceClose) -> None:
        if isinstance(event, sent.SourceOpen):
            self._put(commands.OpenSource(event.url, event.transport), event)
            self._scribe.source(shown(event.url))
        else:
            self._put(commands.CloseSource(), event)

    def _update(self, event: sent.SessionUpdateEvent) -> None:
        before = self.settings
        self._refuse_ended(event.event_id)
        try:
            wanted = before.updated(event.session, started=self.started)
            self._admit(wanted)
            if self.started and wanted.options.speak != before.options.speak:
                self._refuse_full(event)
        except (ProtocolError, OptionError, FormatError, CapacityError) as error:
            param = error.param if isinstance(error, ProtocolError) else "session"
            code = "invalid_value" if isinstance(error, OptionError | FormatError) else error.code
            raise ProtocolError(str(error), code, param=param, event_id=event.event_id) from error
        self.settings = wanted
        self.narrator.scores, self.narrator.ack = wanted.scores, wanted.ack
        if wanted.fps != before.fps:
            self._ticks = Ticks(wanted.fps)
        if self.started and wanted.options.speak != before.options.speak:
            self._mailbox.put(commands.Revise(wanted.options.speak))
        self.log.append(told.SessionUpdated(session=self.told()))

    def _turn(self, event: sent.ItemCreate, now: float) -> None:
        item, name = event.item, event.item.id or self._next_item()
        self._refuse_full(event)
        pictures = [
            frames.from_base64(part.image_url, f"item.content.{place}.image_url")
            for place, part in enumerate(item.content)
            if isinstance(part, sent.InputImage)
        ]
        try:
            refuse_markers(item.text, Role.USER if item.role == "user" else Role.SYSTEM)
        except FormatError as error:
            raise ProtocolError(str(error), "invalid_value", param="item.content", event_id=event.event_id) from error
        for picture in pictures:
            self._frame(frames.WireFrame(None, self.next_pts(), picture), now)
        content = tuple(
            {"type": "input_image"} if isinstance(p, sent.InputImage) else p.model_dump() for p in item.content
        )
        extras = None if item.duet.pts is None else {"pts": item.duet.pts}
        as_told = told.ItemTold(id=name, role=item.role, content=content, duet=extras)
        if not item.text:
            return self.narrator.added(as_told, None)
        self._turns += 1
        turn = commands.ReadTurn(name, item.role, item.text, item.duet.keep, self._turns)
        self.narrator.added(as_told, turn.number)
        self._put(turn, event)
        self._scribe.turn(turn, as_told)
        return None

    def _speak(self, event: sent.ResponseCreate, now: float) -> None:
        if self.narrator.asked:
            raise ProtocolError(
                "a reply has been asked for and has not begun; wait for response.created",
                "conversation_already_has_active_response",
                event_id=event.event_id,
            )
        self._put(commands.SpeakNow(), event)
        self.narrator.asked.append(Asked(event.response.metadata, now))

    def _cancel(self, event: sent.ResponseCancel) -> None:
        speaking = self.narrator.speaking
        if speaking is None or event.response_id not in (None, speaking.response):
            raise ProtocolError(
                "no such reply is being written; there is nothing to cancel",
                "response_cancel_not_active",
                event_id=event.event_id,
            )
        self._mailbox.put(commands.Cancel(speaking.number))

    def _end(self, event: sent.FrameEnd) -> None:
        self._refuse_ended(event.event_id)
        self.ended = self.started = True
        self._mailbox.put(commands.End())
        self._scribe.wanted("end")

    def _put(self, command: commands.Command, event: sent.Event) -> None:
        self._refuse_full(event)
        self.started = True
        self._mailbox.put(command)
        if isinstance(command, commands.SpeakNow):
            self._scribe.wanted("speak")

    def _refuse_full(self, event: sent.Event) -> None:
        self._refuse_ended(event.event_id)
        if not self._mailbox.has_room_for_turns:
            raise ProtocolError(
                f"{self._bounds.max_waiting_turns} messages wait already; send it again when some have been answered",
                "too_many_waiting",
                event_id=event.event_id,
            )

    def _refuse_ended(self, event_id: str | None) -> None:
        if self.ended:
            raise ProtocolError("input_frame.end was sent; connect anew for more", "session_ended", event_id=event_id)

    def _next_item(self) -> str:
        self._items += 1
        return f"item_{self.id}_{self._items}"

    # frames

    def _frame(self, frame: frames.WireFrame, now: float, *, sampled: bool = False) -> None:
        self._refuse_ended(None)
        self.started = True
        seq = frame.seq if frame.seq is not None else self._last.seq + 1 if self._last else 0
        accepted = self._placed(seq, frame.pts, now)
        reason = self._unwanted(accepted, sampled)
        self.narrator.ledger.accept(accepted)
        if reason is not None:
            return self.narrator.dropped(accepted.index, reason, now)
        watch = commands.Watch(accepted.index, accepted.time, frame.picture)
        self._scribe.frame(watch)
        gone = self._mailbox.put(watch)
        if gone is not None:
            self.narrator.dropped(gone.index, "late", now)
        return None

    def _placed(self, seq: int, pts: int, now: float) -> Accepted:
        if self._origin is None:
            self._origin = pts
        self._frames += 1
        return Accepted(self._frames - 1, seq, pts, (pts - self._origin) / 1e6, now)

    def _unwanted(self, frame: Accepted, sampled: bool) -> told.DropReason | None:
        """Why a frame is not to be watched, if it is not. The highest seq and the newest time stand."""
        last = self._last
        if last is not None and frame.seq <= last.seq:
            return "duplicate"
        if last is not None and frame.pts <= last.pts:
            self._last = replace(frame, pts=last.pts, time=last.time)
            return "duplicate" if frame.pts == last.pts else "late"
        self._last = frame
        return None if sampled or self._ticks.take(frame.time) else "rate"

    @property
    def waiting_frames(self) -> int:
        """Frames that have not been handed over."""
        return self._mailbox.frames

    def pulled(self, pts: int, picture: frames.Picture, now: float) -> None:
        """A frame that the server has pulled for the client."""
        if not self.ended and self.narrator.closed is None:
            self._frame(frames.WireFrame(None, pts, picture), now, sampled=True)

    def next_pts(self) -> int:
        """Where a frame stands that follows the latest by one tick, in microseconds."""
        step = round(1e6 / (self.settings.fps or STILL_FPS))
        return self._last.pts + step if self._last else 0

    # what is to be done

    def take(self, in_flight: int = 0) -> commands.Command | None:
        """The next command; None where none may be carried out while ``in_flight`` frames are with the engine."""
        return self._mailbox.take(in_flight)

    def close(self, reason: str, now: float) -> None:
        """The session ends here: what waits is dropped and told, then the last event."""
        self._mailbox.clear()
        self.narrator.close(reason, now)

    # what outlives the server

    @property
    def state(self) -> ConversationState:
        """Where it stands."""
        return ConversationState(
            self.settings,
            self.narrator.state,
            self.consumed,
            self.started,
            self.ended,
            self._last,
            self._origin,
            self._items,
            self._turns,
            self._frames,
            self._ticks.tick,
            self.ends_with_source,
        )

    def restore(
        self,
        state: ConversationState,
        waiting: Sequence[commands.Command],
        items: Mapping[int, told.ItemTold],
        now: float,
    ) -> None:
        """Stand where another stood, with what waited there; a reply that was being told there is at its end.

        ``items`` are the turns that were not read. A frame that was accepted and does not wait is told as dropped: whatever
        became of it, the client is not left to wait for it.
        """
        self.settings = state.settings
        self.narrator.restore(state.narrator, items, now)
        self.narrator.scores, self.narrator.ack = state.settings.scores, state.settings.ack
        self.consumed, self.started, self.ended = state.consumed, state.started, state.ended
        self._last, self._origin, self._items, self._frames = state.last, state.origin, state.items, state.frames
        self._turns, self.ends_with_source = state.turns, state.ends_with_source
        self._ticks = Ticks(state.settings.fps, state.tick)
        kept = {command.index for command in waiting if isinstance(command, commands.Watch)}
        for index in [index for index in self.narrator.ledger.unended() if index not in kept]:
            self.narrator.dropped(index, "late", now)
        for command in waiting:
            if (gone := self._mailbox.put(command)) is not None:  # what was with the engine waits again, too
                self.narrator.dropped(gone.index, "late", now)
        self.narrator.interrupted(now)

    # what the client is told of itself

    def told(self, **created: Any) -> told.SessionTold:
        """The session as it is set, with what is told when it is created: ``limits``, ``resume_token``, ``query``."""
        settings = self.settings.told()
        duet = told.SessionDuet(**settings.pop("duet"), **created)
        return told.SessionTold(id=self.id, duet=duet, **settings)
