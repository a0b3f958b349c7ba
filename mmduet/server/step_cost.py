"""Estimates what a step of the engine costs: a fixed time, and a time for each frame that it scores."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

STEPS_PER_SIZE, STEPS_PER_ESTIMATE = 128, 8
OUTLIER_FACTOR = 8.0
"""A step counts as at most this number of times the median for its size: a compilation or a pause is not the rule."""
MIN_STEPS = 8
"""Sizes with fewer steps count only while there is one other at most."""

MIN_PER_FRAME = 0.25
"""Least time of a frame, as a share of the time per frame in the largest steps: what larger steps save is not known before."""


@dataclass(frozen=True)
class StepCost:
    """Cost of a step in seconds: ``fixed + per_frame * frames``. Text generated beside the frames is part of ``fixed``."""

    fixed: float
    per_frame: float

    @property
    def single(self) -> float:
        """Seconds of a step with one frame."""
        return self.fixed + self.per_frame


class StepCostEstimator:
    """Fits a line to the latest steps of each size. ``on_step`` may be called by another thread than ``estimate``.

    Sizes are powers of two. Small steps are remembered while the engine is busy with large ones, because the slope of the line
    is known only from steps of different sizes. If all have one size, the fixed time is taken as 0, which is cautious.
    """

    def __init__(self) -> None:
        self._steps: dict[int, deque[tuple[int, float]]] = {}  # frames and seconds, by the number of bits of frames
        self._step_count = self._estimated_at = 0
        self._estimate: StepCost | None = None

    def on_step(self, seconds: float, frames: int) -> None:
        """Record a step that scored ``frames`` frames; one that only generated text is ignored."""
        if not frames:
            return
        self._steps.setdefault(frames.bit_length(), deque(maxlen=STEPS_PER_SIZE)).append((frames, seconds))
        self._step_count += 1

    def estimate(self) -> StepCost | None:
        """Return the cost of a step, or None if no frame has been scored yet. It is computed again after some steps."""
        if self._estimate is None or self._step_count - self._estimated_at >= STEPS_PER_ESTIMATE:
            self._estimated_at, self._estimate = self._step_count, self._fit()
        return self._estimate

    def _fit(self) -> StepCost | None:
        """Return the line through the smallest and the largest size, if possible of those of which there are enough steps."""
        sizes = sorted(
            (_SizeStats.of(steps.copy()) for steps in list(self._steps.values())), key=lambda size: size.frames
        )
        frequent = [size for size in sizes if size.count >= MIN_STEPS]
        if not sizes:
            return None
        usable = frequent if len(frequent) > 1 else sizes
        small, large = usable[0], (frequent or usable)[-1]
        slope = (usable[-1].seconds - small.seconds) / max(usable[-1].frames - small.frames, 1.0)
        highest = min(size.seconds / size.frames for size in frequent or sizes)  # as the fixed time is at least 0
        lowest = MIN_PER_FRAME * large.seconds / large.frames
        per_frame = highest if len(usable) == 1 else min(max(slope, lowest), highest)
        return StepCost(max(large.seconds - per_frame * large.frames, 0.0), per_frame)


@dataclass(frozen=True)
class _SizeStats:
    """Number of steps of about the same size, and their mean frames and seconds."""

    count: int
    frames: float
    seconds: float

    @classmethod
    def of(cls, steps: deque[tuple[int, float]]) -> _SizeStats:
        limit = OUTLIER_FACTOR * median(seconds for _, seconds in steps)
        frames = sum(frames for frames, _ in steps) / len(steps)
        return cls(len(steps), frames, sum(min(seconds, limit) for _, seconds in steps) / len(steps))
