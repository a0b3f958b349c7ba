"""State of one session: its timeline, the tokens to be fed next, and its current reply. No weights and no device.

A session either scores frames (its next work is a frame with the turns before it) or replies (its next work is one token).
``next_work`` returns what it contributes to the next step.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from mmduet.duet import SYSTEM_PROMPT, Feed, Piece, PinningRule, Role, check_no_markers, make_feed
from mmduet.engine.policy import PolicyState
from mmduet.engine.repeat_filter import RepeatFilter
from mmduet.engine.sampling import Sampler, SamplerFactory, TokenSampler
from mmduet.engine.slot import Mark, Slot
from mmduet.engine.text_budget import TextBudget
from mmduet.errors import FormatError, SessionClosedError
from mmduet.events import AssistantTurn, Context, ContextRead, Frame, Output, Query, QueryRead
from mmduet.model.tokenizer import TextStream, Tokenizer
from mmduet.options import SessionOptions
from mmduet.video.domain import DomainCheck, FrameColours

Turn = Query | Context | AssistantTurn


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame and its letterboxed image ``pixels``, uint8 [S, S, 3], as the vision tower needs it.

    ``colours`` are measured if the model knows only some kind of footage. ``embeds`` are visual tokens [K, D] that have been
    computed elsewhere; they replace those of ``pixels``.
    """

    frame: Frame
    pixels: Tensor
    colours: FrameColours | None = None
    embeds: Tensor | None = None


@dataclass
class TokenSpan:
    """Tokens that enter the slot as one segment: text token ids, or the visual tokens of ``frame``."""

    ids: list[int]
    frame: PreparedFrame | None = None
    pinned: bool = False


@dataclass
class WorkItem:
    """What one session contributes to a step, and what it needs at the last token: ``frame``'s scores or the next token."""

    spans: list[TokenSpan]
    output: Literal["scores", "tokens", "none"]
    frame: Frame | None = None


@dataclass
class ReplyState:
    """State of the reply that is being decoded."""

    number: int
    frame: Frame
    forced: bool
    mark: Mark
    sampler: TokenSampler
    stream: TextStream
    repeats: RepeatFilter
    context_tokens: int = 0  # tokens in the context when it began
    tokens: int = 0
    started: bool = False  # ReplyStarted has been emitted
    cancelled: bool = False


@dataclass
class Session:
    """State of one stream in the engine."""

    id: int
    options: SessionOptions
    slot: Slot
    tokenizer: Tokenizer
    sampler_factory: SamplerFactory = Sampler
    inbox: deque[PreparedFrame] = field(default_factory=deque)
    outbox: list[Output] = field(default_factory=list)
    pending: list[TokenSpan] = field(default_factory=list)  # to be fed before anything else
    policy: PolicyState = field(default_factory=PolicyState)
    reply: ReplyState | None = None
    recent_replies: list[tuple[float, str]] = field(default_factory=list)  # frame time and text, for repeat suppression
    reply_tokens: set[int] = field(
        default_factory=set
    )  # of all finished replies, for a repetition penalty over them (Q15)
    unfed: list[int] = field(default_factory=list)  # last token of a kept reply that was cut, fed before what follows
    last_frame: Frame | None = None
    frame_count: int = 0
    reply_count: int = 0
    forced: bool = False
    suppress_repeats: bool = False  # the forced reply is not emitted if it repeats a recent one
    has_query: bool = False
    replied_at_end: bool = False
    ending: bool = False
    closed: bool = False
    pinned_tokens: int = 0
    domain_check: DomainCheck | None = None  # None: the model knows all kinds of footage
    take_token: Callable[[], bool] = lambda: True  # counts a token of a reply; False: the reply ends before it
    _turns: list[tuple[float, int, Turn]] = field(default_factory=list)  # heap of (time, arrival number, turn)
    _arrivals: int = 0
    _started: bool = False
    _pinning: PinningRule = field(default_factory=PinningRule)

    def __post_init__(self) -> None:
        """Check the system prompt and create the feed of the session's profile."""
        self._text_budget = check_prompt(self.options, self.tokenizer)
        self.feed: Feed = make_feed(self.options.profile, _prompt(self.options))

    # input

    def push_turn(self, turn: Turn) -> None:
        """Put a turn on the timeline.

        Raise ``SessionClosedError`` after the end of the stream, ``FormatError`` for invalid text, and ``CapacityError`` if the
        text budget of the window is exceeded. The session stays usable after the latter two.
        """
        self.check_open()
        check_no_markers(turn.text, _role(turn))
        check_unicode(turn.text)
        self._text_budget.reserve(_role(turn), turn.text)
        heapq.heappush(self._turns, (turn.time, self._arrivals, turn))
        self._arrivals += 1

    def push_frame(self, frame: PreparedFrame) -> None:
        """Put a frame on the timeline. Raise ``SessionClosedError`` after the end of the stream."""
        self.check_open()
        self.inbox.append(frame)

    def check_open(self) -> None:
        """Raise ``SessionClosedError`` if the stream has ended."""
        if self.closed or self.ending:
            raise SessionClosedError(f"session {self.id} has ended and accepts no more input; open another one")

    # work

    @property
    def ready(self) -> bool:
        """Whether the session has work for a step."""
        return not self.closed and bool(self.reply or self.inbox or self.ending or self.can_speak_now)

    @property
    def can_speak_now(self) -> bool:
        """Whether a requested reply can begin now: after the latest frame, or about turns that no queued frame follows."""
        has_context = self._started or bool(self._turns and self._turns[0][0] <= 0)
        return self.forced and not self.reply and (self.last_frame is not None or (has_context and not self.inbox))

    def next_work(self) -> WorkItem | None:
        """Take the next work of a ready session off the timeline. Return None if there is nothing to feed."""
        if self.reply:
            return WorkItem(self._take_pending(), "tokens")
        if self.can_speak_now or not self.inbox:
            return WorkItem(self._take_pending(), "none") if self.pending else None
        return self._score_frame(self.inbox.popleft())

    def _score_frame(self, frame: PreparedFrame) -> WorkItem:
        """Return the work of scoring a frame: the turns before it, then the frame."""
        self.begin()
        self.read_turns(frame.frame.time, at_most=1 if self.options.profile == "paper" else None)  # Q4
        *header, last = self.feed.frame()
        assert last.frame
        self.queue(header, pinned=self._pinning.append_frame())
        return WorkItem([*self._take_pending(), TokenSpan([], frame)], "scores", frame.frame)

    def read_turns(self, until: float, at_most: int | None = None) -> None:
        """Queue the turns whose time is at most ``until``, with at most ``at_most`` queries among them."""
        queries = 0
        while self._turns and self._turns[0][0] <= until and queries != at_most:
            turn = heapq.heappop(self._turns)[2]
            self._queue_turn(turn)
            queries += isinstance(turn, Query)

    def read_late_turns(self) -> None:
        """Queue the turns after the last frame and request a reply to each query. Under ``paper`` they are dropped (Q4)."""
        while self._turns:
            turn = heapq.heappop(self._turns)[2]
            if self.options.profile == "fixed" and self.last_frame is not None:
                self._queue_turn(turn)
                if isinstance(turn, Query):
                    self.forced = self.replied_at_end = True  # instead of the reply of ``at_end``

    def begin(self) -> None:
        """Queue the system turn, if it has not been queued yet."""
        if not self._started:
            query_first = any(time <= 0 and isinstance(turn, Query) for time, _, turn in self._turns)
            pinned = self._pinning.append_turn(Role.SYSTEM, keep=True)
            self.queue(self.feed.begin(query_first=query_first), pinned=pinned)
            self._started = True

    def _queue_turn(self, turn: Turn) -> None:
        pinned = self._pinning.append_turn(_role(turn), keep=isinstance(turn, Context) and turn.keep)
        if not pinned:
            self._text_budget.release(_role(turn), turn.text)
        if isinstance(turn, AssistantTurn):
            self.queue([*self.feed.begin_reply(), Piece(turn.text, Role.ASSISTANT)])
            self.queue(self.feed.end_reply(removed=False, cut=False))
            return
        if self.options.profile == "paper":
            self.unfed = []  # Q3: nothing of a reply is fed once a turn follows it
        self.queue(self.feed.text(_role(turn), turn.text), pinned=pinned)
        self.has_query |= isinstance(turn, Query)
        time = max(turn.time, 0.0)
        self.outbox.append(QueryRead(turn, time) if isinstance(turn, Query) else ContextRead(turn, time))

    def queue(self, pieces: list[Piece], *, pinned: bool = False) -> None:
        """Queue pieces, after the last token of a reply that was cut, to be fed before anything else."""
        ids = [token for piece in pieces for token in self.tokenizer.encode_piece(piece)]
        if ids:
            self.queue_ids(self.unfed)
            self.unfed = []
        self.queue_ids(ids, pinned=pinned)

    def queue_ids(self, ids: list[int], *, pinned: bool = False) -> None:
        """Queue tokens, to be fed before anything else."""
        if ids:
            self.pending.append(TokenSpan(ids, pinned=pinned))
            self.pinned_tokens += len(ids) * pinned

    def _take_pending(self) -> list[TokenSpan]:
        spans, self.pending = self.pending, []
        return spans

    # replies

    @property
    def latest_frame(self) -> Frame:
        """The latest scored frame; before the first one, an empty image with index -1 at time 0."""
        return self.last_frame or Frame(-1, 0.0, np.zeros((0, 0, 3), np.uint8))

    def recent_texts(self, time: float) -> tuple[str, ...]:
        """Return the texts of the replies within the repeat window before ``time``."""
        self.recent_replies = [
            (t, text) for t, text in self.recent_replies if time - t < self.options.speak.repeat_window
        ]
        return tuple(text for _, text in self.recent_replies)


def check_prompt(options: SessionOptions, tokenizer: Tokenizer) -> TextBudget:
    """Return the text budget after the system turn. Raise ``FormatError`` or ``CapacityError`` for an unusable prompt."""
    prompt = _prompt(options)
    check_no_markers(prompt, Role.SYSTEM)
    check_unicode(prompt)
    budget = TextBudget(tokenizer, options)
    budget.reserve(Role.SYSTEM, prompt)
    return budget


def _prompt(options: SessionOptions) -> str:
    return SYSTEM_PROMPT if options.system_prompt is None else options.system_prompt


def _role(turn: Turn) -> Role:
    return {Query: Role.USER, Context: Role.SYSTEM, AssistantTurn: Role.ASSISTANT}[type(turn)]


def check_unicode(text: str) -> None:
    """Raise ``FormatError`` for lone surrogates, which no tokenizer accepts; checked early, as a step is shared by sessions."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"the text {text[:40]!r} is not valid Unicode ({error.reason}); encode it again") from None
