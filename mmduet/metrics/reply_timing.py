"""Score when a model replies: which of the due replies come, how late, how many are repetitions, and how often it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmduet.metrics.reply_matching import MatchCounts, TimedText, count_repeats, match_spans
from mmduet.spans import Span


@dataclass(frozen=True)
class DueReply:
    """A reply that is expected within ``span``, and best at ``time``."""

    span: Span
    time: float
    text: str = ""


@dataclass(frozen=True)
class TimingCounts:
    """The counts of a comparison; those of several streams can be added.

    ``error_seconds`` is the sum of the distances of matched replies from their best times, ``seconds`` the duration of the
    streams.
    """

    counts: MatchCounts = field(default_factory=MatchCounts)
    error_seconds: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: TimingCounts) -> TimingCounts:
        """Pool two comparisons."""
        return TimingCounts(
            self.counts + other.counts, self.error_seconds + other.error_seconds, self.seconds + other.seconds
        )

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name; those that are not defined, such as the error without a match, are left out."""
        counts = self.counts
        figures = {
            "speak_f1": counts.f1,
            "speak_precision": counts.precision,
            "speak_recall": counts.recall,
            "repeat_rate": counts.repeat_rate,
        }
        if counts.matched:
            figures["timing_error_seconds"] = self.error_seconds / counts.matched
        if self.seconds:
            figures["replies_per_minute"] = 60 * counts.replies / self.seconds
        return figures


def compare_timing(due: Sequence[DueReply], replies: Sequence[TimedText], seconds: float) -> TimingCounts:
    """Match the replies of one stream of ``seconds`` with those that are due, and count."""
    pairs = match_spans([each.span for each in due], [reply.time for reply in replies])
    matched = [(due[d], replies[r]) for d, r in pairs]
    counts = MatchCounts(
        events=len(due),
        replies=len(replies),
        matched=len(pairs),
        exact=sum(expected.text == reply.text for expected, reply in matched),
        repeats=count_repeats(replies, {r for _, r in pairs}),
    )
    return TimingCounts(counts, sum(abs(reply.time - expected.time) for expected, reply in matched), seconds)
