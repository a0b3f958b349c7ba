"""Measures the load that one session offers: the rate of its frames, and how long the engine takes for them."""

from __future__ import annotations

from collections import deque

RATE_FRAMES = 16
"""Number of frames over which a rate is measured."""
MIN_RATE_FRAMES = 4
SETTLE_SECONDS = 2.0
"""Age from which on a session counts with its measured rate."""
SILENCE_SECONDS = 10.0
"""A session that has not sent a frame for this time is idle; its expected rate falls."""
LATENCY_SMOOTHING = 0.25
SLOW_SHARE = 0.25


class SessionLoad:
    """The load of one session. Times are in seconds on the clock of the caller.

    Attributes:
        fps: Rate that is expected until it has been measured.
        max_frame_age: The session's setting; None for a client that adapts to the server, and does not mind old frames.
        reads_file: Whether its frames are read from a file, as fast as they are scored.
        latency: Smoothed time from handing a frame to the engine to its scores.
    """

    def __init__(self, fps: float, max_frame_age: float | None, opened_at: float) -> None:
        self.fps, self.max_frame_age = fps, max_frame_age
        self.reads_file, self.latency = False, 0.0
        self._opened_at, self._frame_count = opened_at, 0
        self._arrivals: deque[float] = deque(maxlen=RATE_FRAMES)
        self._ages: deque[tuple[float, float]] = deque(maxlen=RATE_FRAMES)

    @property
    def is_live(self) -> bool:
        """Return whether the session sends frames at a rate of its own, which have to be scored in time."""
        return self.max_frame_age is not None and not self.reads_file

    @property
    def is_slow(self) -> bool:
        """Return whether the engine takes long for the session's frames, compared with the age that they may have."""
        return self.max_frame_age is not None and self.latency > SLOW_SHARE * self.max_frame_age

    def on_frame(self, now: float) -> None:
        """Record a frame that was accepted into the session's queue."""
        self._arrivals.append(now)
        self._frame_count += 1

    def on_frames(self, total: int, now: float) -> None:
        """Record that ``total`` frames have been accepted so far."""
        for _ in range(total - self._frame_count):
            self.on_frame(now)

    def on_scored(self, now: float, seconds: float) -> None:
        """Record that a frame was scored ``seconds`` after it had been taken from the queue."""
        self.latency += LATENCY_SMOOTHING * (seconds - self.latency)
        if self.max_frame_age is not None and self.is_live:
            self._ages.append((now, seconds / self.max_frame_age))

    def ages_since(self, start: float) -> list[float]:
        """Return the ages of the frames scored since ``start``, as shares of ``max_frame_age``."""
        return [share for scored_at, share in self._ages if scored_at >= start]

    def is_measured(self, now: float) -> bool:
        """Return whether ``rate`` is a measurement rather than an expectation."""
        return len(self._arrivals) >= MIN_RATE_FRAMES and now - self._opened_at >= SETTLE_SECONDS

    def is_idle(self, now: float) -> bool:
        """Return whether the session is sending no frames."""
        return now - (self._arrivals[-1] if self._arrivals else self._opened_at) > SILENCE_SECONDS

    def rate(self, now: float, typical: float = 0.0) -> float:
        """Return the frames per second that the session offers. After the last frame it falls slowly.

        Before there are enough frames it is ``fps``, or ``typical`` if that is more.
        """
        count = len(self._arrivals)
        if count < MIN_RATE_FRAMES:
            waited = now - (self._arrivals[-1] if count else self._opened_at)
            return max(self.fps, typical) * min(1.0, SILENCE_SECONDS / max(waited, SILENCE_SECONDS))
        first, last = self._arrivals[0], self._arrivals[-1]
        interval = (last - first) / (count - 1)
        return (count - 1) / max(last - first, now - interval - first, 1e-6)
