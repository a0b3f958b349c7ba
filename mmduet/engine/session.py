"""One stream's state: its timeline, what is still to be fed, where it stands in a reply; explicit, no weights, no device.

A session is always *watching* (its next work is a frame with the turns before it) or *replying* (its next work is one
token). ``next_work`` says what it puts into the coming step.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from mmduet.duet import SYSTEM_PROMPT, Feed, Piece, PinningRule, Role, check_no_markers, make_feed
from mmduet.engine.decoding import RepeatFilter, Sampler, SamplerFactory, TokenSampler
from mmduet.engine.kv_cache import Mark, Slot
from mmduet.engine.policy import PolicyState
from mmduet.engine.text_budget import TextBudget
from mmduet.errors import FormatError, SessionClosedError
from mmduet.events import AssistantTurn, Context, ContextRead, Frame, Output, Query, QueryRead
from mmduet.model.tokenizer import TextStream, Tokenizer
from mmduet.options import SessionOptions

Turn = Query | Context | AssistantTurn


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame made ready for the tower: ``pixels`` is letterboxed ``uint8 [S, S, 3]``."""

    frame: Frame
    pixels: Tensor


@dataclass
class TokenSpan:
    """Tokens that enter the slot as one segment: literal ids, or one picture's visual tokens."""

    ids: list[int]
    picture: PreparedFrame | None = None
    pinned: bool = False


@dataclass
class WorkItem:
    """What one session puts into one step, and what it wants read at the last token."""

    runs: list[TokenSpan]
    wants: Literal["scores", "token", "nothing"]
    frame: Frame | None = None


@dataclass
class ReplyState:
    """A reply that is being written."""

    number: int
    frame: Frame
    forced: bool
    mark: Mark
    sampler: TokenSampler
    stream: TextStream
    repeats: RepeatFilter
    context: int = 0  # tokens in view when it began
    tokens: int = 0
    shown: bool = False  # some of its text has been emitted
    cancelled: bool = False


@dataclass
class Session:
    """Everything the engine knows of one stream."""

    id: int
    options: SessionOptions
    slot: Slot
    tokenizer: Tokenizer
    sampler_factory: SamplerFactory = Sampler
    inbox: deque[PreparedFrame] = field(default_factory=deque)
    outbox: list[Output] = field(default_factory=list)
    pending: list[TokenSpan] = field(default_factory=list)  # fed before anything else
    policy: PolicyState = field(default_factory=PolicyState)
    reply: ReplyState | None = None
    recent_replies: list[tuple[float, str]] = field(default_factory=list)  # lately, for repeat suppression
    last_frame: Frame | None = None
    frame_count: int = 0
    reply_count: int = 0
    forced: bool = False
    has_query: bool = False
    spoke_at_end: bool = False
    ending: bool = False
    closed: bool = False
    pinned_tokens: int = 0
    _turns: list[tuple[float, int, Turn]] = field(default_factory=list)  # a heap, by time, then arrival
    _arrivals: int = 0
    _begun: bool = False
    _pinning: PinningRule = field(default_factory=PinningRule)

    def __post_init__(self) -> None:
        """A fresh feed under the session's profile."""
        self._text_budget = check_prompt(self.options, self.tokenizer)
        self.feed: Feed = make_feed(self.options.profile, _prompt(self.options))

    # what comes in

    def push_turn(self, turn: Turn) -> None:
        """Put a query or context on the timeline.

        Raises ``SessionClosedError`` after the end, ``FormatError`` on bad text, ``CapacityError`` where the window's text has
        no room for it; the session goes on.
        """
        self.check_open()
        check_no_markers(turn.text, _role(turn))
        check_unicode(turn.text)
        self._text_budget.reserve(_role(turn), turn.text)
        heapq.heappush(self._turns, (turn.time, self._arrivals, turn))
        self._arrivals += 1

    def push_frame(self, picture: PreparedFrame) -> None:
        """Put a frame on the timeline. Raises ``SessionClosedError`` after the end."""
        self.check_open()
        self.inbox.append(picture)

    def check_open(self) -> None:
        """Raise ``SessionClosedError`` if nothing more may come."""
        if self.closed or self.ending:
            raise SessionClosedError(f"session {self.id} has ended; open another")

    # what goes into the next step

    @property
    def ready(self) -> bool:
        """Whether there is anything to put into a step."""
        return not self.closed and bool(self.reply or self.inbox or self.ending or self.can_speak_now)

    @property
    def can_speak_now(self) -> bool:
        """Whether a reply was asked for that need not wait for another frame, or is about a turn that no frame follows."""
        begun = self._begun or bool(self._turns and self._turns[0][0] <= 0)
        return self.forced and not self.reply and (self.last_frame is not None or (begun and not self.inbox))

    def next_work(self) -> WorkItem | None:
        """The next work of a ready session, taken off the timeline; None where there is nothing to feed."""
        if self.reply:
            return WorkItem(self._take_pending(), "token")
        if self.can_speak_now or not self.inbox:
            return WorkItem(self._take_pending(), "nothing") if self.pending else None
        return self._score_frame(self.inbox.popleft())

    def _score_frame(self, picture: PreparedFrame) -> WorkItem:
        """The turns that stand before the frame, then the frame."""
        self.begin()
        self.read_turns(picture.frame.time, at_most=1 if self.options.profile == "paper" else None)  # Q4
        *header, last = self.feed.frame()
        assert last.frame
        self.queue(header, pinned=self._pinning.append_frame())
        return WorkItem([*self._take_pending(), TokenSpan([], picture)], "scores", picture.frame)

    def read_turns(self, until: float, at_most: int | None = None) -> None:
        """Queue the turns that stand at or before ``until``, at most ``at_most`` queries among them."""
        queries = 0
        while self._turns and self._turns[0][0] <= until and queries != at_most:
            turn = heapq.heappop(self._turns)[2]
            self._queue_turn(turn)
            queries += isinstance(turn, Query)

    def read_late_turns(self) -> None:
        """After the last frame: queries are read, to be answered at once; under ``paper`` they are not run (Q4)."""
        while self._turns:
            turn = heapq.heappop(self._turns)[2]
            if self.options.profile == "fixed" and self.last_frame is not None:
                self._queue_turn(turn)
                if isinstance(turn, Query):
                    self.forced = self.spoke_at_end = True  # its answer is the last word

    def begin(self) -> None:
        """Queue the system turn, if that has not been done."""
        if not self._begun:
            query_first = any(time <= 0 and isinstance(turn, Query) for time, _, turn in self._turns)
            pinned = self._pinning.append_turn(Role.SYSTEM, keep=True)
            self.queue(self.feed.begin(query_first=query_first), pinned=pinned)
            self._begun = True

    def _queue_turn(self, turn: Turn) -> None:
        pinned = self._pinning.append_turn(_role(turn), keep=isinstance(turn, Context) and turn.keep)
        if not pinned:
            self._text_budget.release(_role(turn), turn.text)
        if isinstance(turn, AssistantTurn):
            self.queue([*self.feed.begin_reply(), Piece(turn.text, Role.ASSISTANT)])
            self.queue(self.feed.end_reply(removed=False, cut=False))
            return
        self.queue(self.feed.text(_role(turn), turn.text), pinned=pinned)
        self.has_query |= isinstance(turn, Query)
        read = max(turn.time, 0.0)
        self.outbox.append(QueryRead(turn, read) if isinstance(turn, Query) else ContextRead(turn, read))

    def queue(self, pieces: list[Piece], *, pinned: bool = False) -> None:
        """Have pieces fed before anything else."""
        ids = [token for piece in pieces for token in self.tokenizer.encode_piece(piece)]
        self.queue_ids(ids, pinned=pinned)

    def queue_ids(self, ids: list[int], *, pinned: bool = False) -> None:
        """Have tokens fed before anything else."""
        if ids:
            self.pending.append(TokenSpan(ids, pinned=pinned))
            self.pinned_tokens += len(ids) * pinned

    def _take_pending(self) -> list[TokenSpan]:
        runs, self.pending = self.pending, []
        return runs

    # replies

    @property
    def latest_frame(self) -> Frame:
        """The latest frame; before the first one an empty picture at time 0, of index -1."""
        return self.last_frame or Frame(-1, 0.0, np.zeros((0, 0, 3), np.uint8))

    def recent_texts(self, time: float) -> tuple[str, ...]:
        """What was said within the repeat window before ``time``."""
        self.recent_replies = [
            (t, text) for t, text in self.recent_replies if time - t < self.options.speak.repeat_window
        ]
        return tuple(text for _, text in self.recent_replies)


def check_prompt(options: SessionOptions, tokenizer: Tokenizer) -> TextBudget:
    """The room for text with the system turn in it. Raises ``FormatError`` or ``CapacityError`` where it cannot be."""
    prompt = _prompt(options)
    check_no_markers(prompt, Role.SYSTEM)
    check_unicode(prompt)
    room = TextBudget(tokenizer, options)
    room.reserve(Role.SYSTEM, prompt)
    return room


def _prompt(options: SessionOptions) -> str:
    return SYSTEM_PROMPT if options.system_prompt is None else options.system_prompt


def _role(turn: Turn) -> Role:
    return {Query: Role.USER, Context: Role.SYSTEM, AssistantTurn: Role.ASSISTANT}[type(turn)]


def check_unicode(text: str) -> None:
    """Half a character cannot be tokenised; better refused where it is pushed than met in a step that others share."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"the text {text[:40]!r} is not valid Unicode ({error.reason}); encode it again") from None
