"""Warns about engine steps that failed and were repeated in parts."""

from __future__ import annotations

import logging

from mmduet.engine.thread import StepStats
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import STEP_FAILED

log = logging.getLogger(__name__)


class StepFaultWarning:
    """A rate-limited warning for steps with errors; each type of error has its own limit."""

    def __init__(self) -> None:
        self.warning = LimitedWarning(STEP_FAILED, log)

    def on_step(self, step: StepStats) -> None:
        """Check a step; called by the engine's thread."""
        if step.faults:
            error = step.faults[0].error
            ended = sum(fault.ended_session for fault in step.faults)
            self.warning.emit(type(error).__name__, error=error, sessions=step.sessions, sessions_ended=ended)
