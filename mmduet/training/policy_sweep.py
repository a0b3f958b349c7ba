"""Replay speak policies on the scores of recorded streams, and count which replies come when one is due. NumPy only.

Replies are removed from the context by default, so the scores of a stream do not depend on the policy: they are computed once,
and any number of policies is compared on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmduet.engine.policy import PolicyState, decide
from mmduet.events import Scores
from mmduet.metrics.reply_matching import EPSILON, MatchCounts
from mmduet.options import SpeakOptions
from mmduet.spans import Span

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScoredStream:
    """One video with one query: the scores of its frames from the query on, and the spans in which a reply is due.

    Each span wants one reply; its ends are included.
    """

    scores: tuple[Scores, ...]
    due: tuple[Span, ...]


@dataclass(frozen=True)
class SweepCounts:
    """Counts over all streams for every combination of minimum interval and value [I, V]."""

    events: int
    replies: IntArray
    matched: IntArray

    @property
    def precision(self) -> FloatArray:
        """The share of replies that come when one is due [I, V]; NaN without replies."""
        with np.errstate(invalid="ignore"):
            precision: FloatArray = self.matched / self.replies
        return precision

    @property
    def recall(self) -> FloatArray:
        """The share of due replies that come [I, V]; NaN if none is due."""
        return self.matched / (self.events or float("nan"))

    @property
    def f1(self) -> FloatArray:
        """The harmonic mean of precision and recall [I, V]; 1 if no reply is due and none comes."""
        total = self.replies + self.events
        return np.where(total > 0, 2 * self.matched / np.maximum(total, 1), 1.0)


def replay(stream: ScoredStream, speak: SpeakOptions) -> MatchCounts:
    """Return the counts of one stream under one policy, decided as in the engine."""
    state, times = PolicyState(), []
    for scores in stream.scores:
        state, fires = decide(speak, state, scores)
        if fires:
            times.append(scores.time)
    matcher = _Matcher(stream.due, ())
    for time in times:
        matcher.add(time, np.array(True))
    return MatchCounts(events=len(stream.due), replies=len(times), matched=int(matcher.matched))


def sweep(
    streams: Sequence[ScoredStream], speak: SpeakOptions, values: Sequence[float], intervals: Sequence[float]
) -> SweepCounts:
    """Return the counts of ``speak`` with every combination of ``min_interval`` [I] and ``value`` [V]."""
    shape = len(intervals), len(values)
    replies, matched = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for stream in streams:
        policies, matcher = _Policies(speak, values, intervals), _Matcher(stream.due, shape)
        for scores in stream.scores:
            fires = policies.decide(scores)
            replies += fires
            matcher.add(scores.time, fires)
        matched += matcher.matched
    return SweepCounts(sum(len(stream.due) for stream in streams), replies, matched)


class _Policies:
    """The policies of a sweep on one stream; decides as ``mmduet.engine.policy.decide``, for all of them at once."""

    def __init__(self, speak: SpeakOptions, values: Sequence[float], intervals: Sequence[float]) -> None:
        self._speak, self._values, self._intervals = speak, np.array(values), np.array(intervals)[:, None]
        self._total = np.zeros((len(intervals), len(values)))
        self._last_reply = np.full_like(self._total, -np.inf)

    def decide(self, scores: Scores) -> BoolArray:
        """Return which policies reply after this frame [I, V]."""
        score = sum(getattr(scores, head) for head in self._speak.heads)
        self._total += score
        exceeded = {"threshold": score > self._values, "sum": self._total > self._values}[self._speak.policy]
        fires: BoolArray = exceeded & (scores.time - self._last_reply >= self._intervals - 1e-9)
        self._total[fires], self._last_reply[fires] = 0.0, scores.time
        return fires


class _Matcher:
    """Matches replies with due spans one to one, for policies of any shape at once.

    Replies come in order of time, and each takes the free span that ends first: a maximum matching.
    """

    def __init__(self, due: Sequence[Span], shape: tuple[int, ...]) -> None:
        self._due = sorted(due, key=lambda span: span.end)
        self._is_free = np.ones((len(due), *shape), np.bool_)

    def add(self, time: float, replies: BoolArray) -> None:
        """Match the replies at ``time``, of the policies for which ``replies`` is true."""
        unmatched = replies.copy()
        for i, span in enumerate(self._due):
            if span.start - EPSILON <= time <= span.end + EPSILON:
                taken = unmatched & self._is_free[i]
                self._is_free[i] &= ~taken
                unmatched &= ~taken

    @property
    def matched(self) -> IntArray:
        """The number of matched replies of each policy."""
        count: IntArray = (~self._is_free).sum(axis=0)
        return count
