"""The in-span score of multi-answer grounded questions (MAGQA); pure functions, scores from 1 to 5, times in seconds.

Source: MMDuet (arXiv 2411.17991), section on MAGQA, and its evaluator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mmduet.metrics.spans import Span

LOWEST, HIGHEST = 1, 5
UNTIMED = -1.0  # the time of a turn that a model gave no time for
Pair = tuple[int, int]  # (gold answer, assistant turn), each counted from 0


def in_span(time: float, span: Span, untimed_match: bool = True) -> bool:
    """Whether a turn at ``time`` answers within ``span``, both ends included; NaN never does.

    A turn at -1 is in every span with ``untimed_match`` (the reference's ``baseline_all_match``), else in none.
    """
    if time == UNTIMED:
        return untimed_match
    return span[0] <= time <= span[1]


def pairs_in_span(times: Sequence[float], spans: Sequence[Span], untimed_match: bool = True) -> Iterator[Pair]:
    """The pairs that count, and so the only ones to be judged: ``times`` of turns [T], ``spans`` of gold answers [A]."""
    for answer, span in enumerate(spans):
        for turn, time in enumerate(times):
            if in_span(time, span, untimed_match):
                yield answer, turn


def question_score(answers: int, scores: Mapping[Pair, float]) -> float:
    """A question's in-span score: the mean over its gold answers of the mean score of the turns in each one's span.

    ``scores`` has those pairs and no others. An answer without a turn in its span counts 1; a turn that repeats another
    counts again. NaN where there are no ``answers``.
    """
    within: list[list[float]] = [[] for _ in range(answers)]
    for (answer, _), score in scores.items():
        within[answer].append(score)
    return mean([mean(found) if found else float(LOWEST) for found in within])


def padded(values: Sequence[float], number: int, value: float) -> list[float]:
    """``values``, and ``value`` as often as it takes to make ``number`` of them."""
    return [*values, *[value] * (number - len(values))]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of none."""
    return sum(values) / len(values) if values else float("nan")
