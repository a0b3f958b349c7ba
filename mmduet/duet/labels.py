"""Training targets per frame from an annotated timeline. No tensors.

Source: MMDuet §3.3 as restated in docs/duet_format.md: *informative* is 1 from the middle of the annotated span to
the reply, 0 elsewhere, and never outside the reply's own stream turn; *relevance* is 1 inside any annotated span.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmduet.spans import AnnotatedReply, Span

IGNORE = -100


def informative_targets(
    times: Sequence[float], answers: Sequence[AnnotatedReply], starts: Sequence[int] | None = None
) -> list[int]:
    """Return one target (0, 1 or ``IGNORE``) per frame time.

    ``starts[i]`` is the first frame of the stream turn that answer ``i`` ends; the answer labels no earlier frame. Without
    ``starts``, the stream turn of each answer begins after the time of the previous answer. Frames of an answer with
    ``learn=False`` are ``IGNORE``.
    """
    targets = [0] * len(times)
    for i, answer in enumerate(answers):
        middle = sum(answer.timespan) / 2
        for k, time in enumerate(times):
            in_span = middle <= time <= answer.time
            in_turn = k >= starts[i] if starts is not None else i == 0 or time > answers[i - 1].time
            if in_span and in_turn:
                targets[k] = 1 if answer.learn else IGNORE
    return targets


def relevance_targets(times: Sequence[float], spans: Sequence[Span]) -> list[int]:
    """Return 1 for each frame time inside any span, both ends included, else 0."""
    return [int(any(start <= time <= end for start, end in spans)) for time in times]


def reply_frame(times: Sequence[float], answer: AnnotatedReply) -> int | None:
    """Return the last frame in [middle of the span, time of the reply], at which the reply may still be given, or None."""
    middle = sum(answer.timespan) / 2
    inside = [k for k, time in enumerate(times) if middle <= time <= answer.time]
    return inside[-1] if inside else None
