"""Figures about the last seconds of a server: steps of the engine, ages of frames, generated tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from mmduet.engine.thread import StepStats

WINDOW_SECONDS = 10.0
MAX_ENTRIES = 1 << 15


@dataclass(frozen=True)
class RecentFigures:
    """The figures. Percentiles and means are None without anything to measure; times are in milliseconds.

    Attributes:
        frames_per_second: Frames that were scored.
        step_ms_p50: Duration of a step of the engine, median.
        step_ms_p95: The same, 95th percentile.
        frames_per_step: Mean number of frames in the steps that scored any.
        frame_age_ms_p50: Time from receiving a frame to its scores, median.
        frame_age_ms_p95: The same, 95th percentile.
        tokens_per_second: Tokens of replies that have ended.
    """

    frames_per_second: float
    step_ms_p50: float | None
    step_ms_p95: float | None
    frames_per_step: float | None
    frame_age_ms_p50: float | None
    frame_age_ms_p95: float | None
    tokens_per_second: float


class RecentStats:
    """Collects the figures; ``on_step`` is called by the engine's thread, the others in the event loop."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self.started_at = clock, clock()
        self._steps: deque[tuple[float, StepStats]] = deque(maxlen=MAX_ENTRIES)
        self._ages: deque[tuple[float, float]] = deque(maxlen=MAX_ENTRIES)
        self._tokens: deque[tuple[float, int]] = deque(maxlen=MAX_ENTRIES)

    @property
    def uptime_seconds(self) -> float:
        """Return the seconds since the server was started."""
        return self._clock() - self.started_at

    def on_step(self, step: StepStats) -> None:
        """Record a step of the engine."""
        self._steps.append((self._clock(), step))

    def on_frame_scored(self, age_seconds: float) -> None:
        """Record a frame that was scored this long after it was received."""
        self._ages.append((self._clock(), age_seconds))

    def on_tokens(self, count: int) -> None:
        """Record the tokens of a reply that has ended."""
        self._tokens.append((self._clock(), count))

    def figures(self) -> RecentFigures:
        """Return the figures of the last ``WINDOW_SECONDS``, or since the start."""
        since = self._clock() - WINDOW_SECONDS
        seconds = max(min(self.uptime_seconds, WINDOW_SECONDS), 1.0)
        steps = [step for at, step in self._steps.copy() if at >= since]
        ages = [age for at, age in self._ages if at >= since]
        frames = [step.frames for step in steps if step.frames]
        return RecentFigures(
            frames_per_second=round(sum(frames) / seconds, 2),
            step_ms_p50=_percentile_ms([step.seconds for step in steps], 0.5),
            step_ms_p95=_percentile_ms([step.seconds for step in steps], 0.95),
            frames_per_step=round(sum(frames) / len(frames), 2) if frames else None,
            frame_age_ms_p50=_percentile_ms(ages, 0.5),
            frame_age_ms_p95=_percentile_ms(ages, 0.95),
            tokens_per_second=round(sum(count for at, count in self._tokens if at >= since) / seconds, 2),
        )


def _percentile_ms(seconds: Sequence[float], share: float) -> float | None:
    """Return a percentile in milliseconds; None without values."""
    if not seconds:
        return None
    return round(sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)] * 1000, 2)
