"""Convert presentation timestamps to seconds from the first frame."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from statistics import median

FALLBACK_RATE = Fraction(25)
RECENT_INTERVALS = 9  # between frames
MAX_REORDER_SECONDS = Fraction(1, 2)


class PresentationClock:
    """Converts timestamps to seconds that start at 0 and never decrease.

    A frame without a timestamp (raw streams) is placed one average frame duration after the previous one. So is a frame whose
    timestamp jumps back (joined recordings); later timestamps are then counted from that frame. A frame that is only out of
    order, by at most ``MAX_REORDER_SECONDS`` or without ``follows_jumps`` by any time, has the time of the previous one.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None, *, follows_jumps: bool = True) -> None:
        self.time_base, self._follows_jumps = time_base, follows_jumps
        self._step = 1 / (rate or FALLBACK_RATE)
        self._origin: Fraction | None = None
        self._last: Fraction | None = None
        self._last_duration = self._step
        self._intervals = deque[Fraction](maxlen=RECENT_INTERVALS)

    @property
    def origin(self) -> Fraction:
        """The timestamp in seconds that times are counted from; 0 if there was none."""
        return self._origin or Fraction(0)

    @property
    def has_started(self) -> bool:
        """Whether there was a timestamp to count from."""
        return self._origin is not None

    @property
    def step_seconds(self) -> float:
        """The average duration of a frame in seconds."""
        return float(self._step)

    @property
    def last_duration(self) -> float:
        """The duration of the last frame in seconds: its own, or else the average."""
        return float(self._last_duration)

    @property
    def end_seconds(self) -> float:
        """The end of the last frame in seconds; 0 without frames."""
        return 0.0 if self._last is None else float(self._last + self._last_duration)

    @property
    def interval_seconds(self) -> float:
        """The usual time between the latest frames in seconds; the declared rate may be wrong."""
        return float(median(self._intervals or [self._step]))

    @property
    def next_seconds(self) -> float:
        """When the next frame is due, in seconds; 0 without frames."""
        return 0.0 if self._last is None else float(self._last) + max(self.last_duration, self.interval_seconds)

    def start_at(self, pts: int) -> None:
        """Count times from this timestamp, unless there was one before."""
        if self._origin is None:
            self._origin, self._last = pts * self.time_base, self._last or Fraction(0)

    def position(self, pts: int) -> float:
        """Return the time of a timestamp in seconds without recording a frame."""
        return float(pts * self.time_base - self.origin)

    def to_seconds(self, pts: int | None, duration: int | None = None) -> float:
        """Return the time of the next frame in seconds, from its timestamp and duration in units of the time base."""
        next_time = Fraction(0) if self._last is None else self._last + self._step
        time = next_time if pts is None else self._since_origin(pts * self.time_base, next_time)
        if self._last is not None and time > self._last:
            self._intervals.append(time - self._last)
        self._last = time
        self._last_duration = duration * self.time_base if duration else self._step
        return float(time)

    def _since_origin(self, stamp: Fraction, next_time: Fraction) -> Fraction:
        last = self._last or Fraction(0)
        is_jump = self._origin is not None and stamp - self._origin < last - MAX_REORDER_SECONDS
        if self._origin is None or (is_jump and self._follows_jumps):
            self._origin = stamp - next_time
        return max(stamp - self._origin, last)
