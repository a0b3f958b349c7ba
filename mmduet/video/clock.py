"""Convert presentation timestamps to seconds from the first frame."""

from __future__ import annotations

from fractions import Fraction

FALLBACK_RATE = Fraction(25)


class PresentationClock:
    """Seconds that start at 0 and never run backwards.

    A frame without a timestamp (raw streams) follows the one before it by one frame of the average rate. So does one
    whose timestamp jumps back (joined recordings), and the timestamps after it go on from there.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self._time_base = time_base
        self._step = 1 / (rate or FALLBACK_RATE)
        self._origin: Fraction | None = None
        self._last: Fraction | None = None

    @property
    def end_seconds(self) -> float:
        """When the last frame read stops being shown, in seconds, if it lasts as long as an average one."""
        return 0.0 if self._last is None else float(self._last + self._step)

    def to_seconds(self, pts: int | None) -> float:
        """The seconds of the next frame, from its timestamp in units of the time base."""
        follow = Fraction(0) if self._last is None else self._last + self._step
        time = follow if pts is None else self._from_origin(pts * self._time_base, follow)
        self._last = time
        return float(time)

    def _from_origin(self, stamp: Fraction, follow: Fraction) -> Fraction:
        if self._origin is None or stamp - self._origin < (self._last or 0):
            self._origin = stamp - follow
        return stamp - self._origin
