"""Warns about engine steps that take too long, which delay every session."""

from __future__ import annotations

import logging

from mmduet.engine.thread import StepStats
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import SLOW_STEP

log = logging.getLogger(__name__)


class SlowStepWarning:
    """A rate-limited warning for engine steps of more than ``threshold_seconds``."""

    def __init__(self, threshold_seconds: float) -> None:
        self._threshold_seconds = threshold_seconds
        self.warning = LimitedWarning(SLOW_STEP, log)

    def on_step(self, step: StepStats) -> None:
        """Check a step; called by the engine's thread."""
        if step.seconds > self._threshold_seconds:
            self.warning.emit(duration_s=round(step.seconds, 3), frames=step.frames, sessions=step.sessions)
