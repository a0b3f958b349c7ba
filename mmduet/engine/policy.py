"""Policies: from a frame's scores to *speak* or *listen*; pure functions of frozen options and a small state, causal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmduet.events import Scores
from mmduet.options import SpeakOptions


@dataclass(frozen=True)
class PolicyState:
    """What a policy remembers between frames."""

    total: float = 0.0  # running sum since it last fired
    last_reply: float = float("-inf")  # time of the frame that last set off a reply


def decide(options: SpeakOptions, state: PolicyState, scores: Scores) -> tuple[PolicyState, bool]:
    """Whether to speak after this frame, and the state for the next. The sum runs over every frame that is decided on."""
    score = sum(getattr(scores, head) for head in options.heads)
    total = state.total + score
    fires = {"threshold": score > options.value, "sum": total > options.value, "never": False}[options.policy]
    rested = scores.time - state.last_reply >= options.min_interval - 1e-9
    if fires and rested:
        return replace(state, total=0.0, last_reply=scores.time), True
    return replace(state, total=total), False
