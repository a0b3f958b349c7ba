"""Compute the in-span score of multi-answer grounded questions (MAGQA): grades from 1 to 5 of replies within gold spans.

Source: MMDuet (arXiv 2411.17991), section on MAGQA, and its evaluator. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mmduet.spans import Span

MIN_SCORE, MAX_SCORE = 1, 5
NO_TIME = -1.0  # of a turn for which the model gave no time
Pair = tuple[int, int]  # (gold answer, assistant turn), each counted from 0


def is_in_span(time: float, span: Span, match_untimed: bool = True) -> bool:
    """Return whether a turn at ``time`` lies within ``span``, both ends included; NaN never does.

    A turn at -1 lies in every span with ``match_untimed`` (the original's ``baseline_all_match``), else in none.
    """
    if time == NO_TIME:
        return match_untimed
    return span[0] <= time <= span[1]


def pairs_in_span(times: Sequence[float], spans: Sequence[Span], match_untimed: bool = True) -> Iterator[Pair]:
    """Yield the pairs to be judged, for the ``times`` of turns [T] and the ``spans`` of gold answers [A]."""
    for answer, span in enumerate(spans):
        for turn, time in enumerate(times):
            if is_in_span(time, span, match_untimed):
                yield answer, turn


def question_score(answers: int, scores: Mapping[Pair, float]) -> float:
    """Return a question's score: the mean over its gold answers of the mean score of the turns in the answer's span.

    ``scores`` has exactly the pairs of ``pairs_in_span``. An answer without a turn in its span counts 1, and a repeated turn
    counts again. NaN where ``answers`` is 0.
    """
    by_answer: list[list[float]] = [[] for _ in range(answers)]
    for (answer, _), score in scores.items():
        by_answer[answer].append(score)
    return mean([mean(found) if found else float(MIN_SCORE) for found in by_answer])


def pad(values: Sequence[float], length: int, value: float) -> list[float]:
    """Return ``values`` followed by as many of ``value`` as are missing to ``length``."""
    return [*values, *[value] * (length - len(values))]


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; NaN without values."""
    return sum(values) / len(values) if values else float("nan")
