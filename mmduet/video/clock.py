"""Convert presentation timestamps to seconds from the first frame."""

from __future__ import annotations

from fractions import Fraction

FALLBACK_RATE = Fraction(25)


class PresentationClock:
    """Converts timestamps to seconds that start at 0 and never decrease.

    A frame without a timestamp (raw streams) is placed one average frame duration after the previous one. So is a frame whose
    timestamp jumps back (joined recordings); later timestamps are then counted from that frame.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self._time_base = time_base
        self._step = 1 / (rate or FALLBACK_RATE)
        self._origin: Fraction | None = None
        self._last: Fraction | None = None

    @property
    def end_seconds(self) -> float:
        """The end of the last frame in seconds, if it has the average duration."""
        return 0.0 if self._last is None else float(self._last + self._step)

    def to_seconds(self, pts: int | None) -> float:
        """Return the time of the next frame in seconds, from its timestamp in units of the time base."""
        next_time = Fraction(0) if self._last is None else self._last + self._step
        time = next_time if pts is None else self._since_origin(pts * self._time_base, next_time)
        self._last = time
        return float(time)

    def _since_origin(self, stamp: Fraction, next_time: Fraction) -> Fraction:
        if self._origin is None or stamp - self._origin < (self._last or 0):
            self._origin = stamp - next_time
        return stamp - self._origin
