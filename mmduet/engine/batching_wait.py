"""Decides how long an engine waits before a step, so that frames that are about to arrive take part in it."""

from __future__ import annotations

from math import exp

RATE_SECONDS = 1.0
"""Time over which the rate of frames is averaged."""
STEP_WEIGHT = 0.1
"""Weight of the latest step in the average duration."""


class BatchingWait:
    """A short wait before steps that would begin with fewer streams than usual.

    During a step of ``t`` seconds, ``rate * t`` frames arrive. A frame that just misses a step waits until it has ended. While
    fewer streams than that are ready, a wait therefore saves more time for the frames that arrive than it costs those that are
    ready. With few streams, for which ``rate * t`` is below 2, there is never a wait.
    """

    def __init__(self, max_share: float = 0.25, max_seconds: float = 0.01) -> None:
        """Wait at most ``max_share`` of the average duration of a step, and at most ``max_seconds``."""
        self._max_share, self._max_seconds = max_share, max_seconds
        self._step_seconds: float | None = None
        self._frames = self._time = 0.0  # decayed sums
        self._last_end: float | None = None

    def on_step(self, seconds: float, frames: int, now: float) -> None:
        """Record a step that has ended at ``now``: its duration in seconds, and the frames that it scored."""
        before = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = before + STEP_WEIGHT * (seconds - before)
        elapsed = seconds if self._last_end is None else max(now - self._last_end, 0.0)
        decay = exp(-elapsed / RATE_SECONDS)
        self._frames, self._time = decay * self._frames + frames, decay * self._time + elapsed
        self._last_end = now

    def plan(self, ready: int, streams: int) -> tuple[float, int]:
        """Return the longest wait in seconds, and the number of ready streams at which it ends.

        ``ready`` of all ``streams`` have work. The wait is 0 if enough of them are ready.
        """
        if self._step_seconds is None or not self._time:
            return 0.0, 0
        target = min(int(self._frames / self._time * self._step_seconds), streams)
        if not 0 < ready < target:
            return 0.0, 0
        return min(self._max_share * self._step_seconds, self._max_seconds), target
