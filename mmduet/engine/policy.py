"""Policies: decide from the scores of a frame whether to reply. Pure, causal functions of options and a small state."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmduet.events import Scores
from mmduet.options import SpeakOptions


@dataclass(frozen=True)
class PolicyState:
    """State of a policy between frames."""

    total: float = 0.0  # running sum since the last reply it triggered
    last_reply: float = float("-inf")  # time in seconds of the frame that last triggered a reply


def decide(options: SpeakOptions, state: PolicyState, scores: Scores) -> tuple[PolicyState, bool]:
    """Return the state after this frame, and whether to reply. The sum runs over all frames passed to this function."""
    score = sum(getattr(scores, head) for head in options.heads)
    total = state.total + score
    fires = {"threshold": score > options.value, "sum": total > options.value, "never": False}[options.policy]
    interval_over = scores.time - state.last_reply >= options.min_interval - 1e-9
    if fires and interval_over:
        return replace(state, total=0.0, last_reply=scores.time), True
    return replace(state, total=total), False
