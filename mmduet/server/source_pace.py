"""Decides when the next frame of a source is due: the pause of the source, and the speed at which a file is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

MAX_CATCH_UP_SECONDS = 1.0
"""A file that is further behind its schedule continues at its speed from there, instead of catching up as fast as possible."""


class SourcePace:
    """Maps the times of a source's frames to the clock.

    At ``speed`` times real time, a frame is due when the position reaches its time. The position moves on at that speed from
    the last change of pause or speed, so delays do not add up. With ``speed`` None every frame is due at once. While the source
    is paused, the position stands still and no frame is due. All times are in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.speed: float | None = None
        self._paused, self._clock = False, clock
        self._position = 0.0  # time in the source
        self._position_at: float | None = None  # on the clock; None until the first frame
        self._changed = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Whether no frame is due."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._move_anchor()
        self._paused = paused
        self._changed.set()

    def set_speed(self, speed: float | None) -> None:
        """Continue at another speed; None: as fast as frames are scored."""
        self._move_anchor()
        self.speed = speed
        self._changed.set()

    @property
    def position(self) -> float:
        """The time in the source that has been reached."""
        if self._position_at is None or self.speed is None or self._paused:
            return self._position
        return self._position + (self._clock() - self._position_at) * self.speed

    def delay(self, time: float) -> float | None:
        """Return the seconds until the frame at ``time`` is due, 0 if it is due now; None while the source is paused."""
        if self._paused:
            return None
        if self._position_at is None or self.speed is None:
            return 0.0
        return max((time - self.position) / self.speed, 0.0)

    def is_due(self, time: float) -> bool:
        """Return whether the frame at ``time`` is due now."""
        return self.delay(time) == 0.0

    async def wait_until_due(self, time: float) -> None:
        """Wait until the frame at ``time`` is due. A change of pause or speed takes effect during the wait."""
        while (delay := self.delay(time)) != 0.0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    def on_frame(self, time: float) -> None:
        """Record that the frame at ``time`` was taken. If that was too late, the schedule is moved."""
        is_late = self.speed is not None and (self.position - time) / self.speed > MAX_CATCH_UP_SECONDS
        if self._position_at is None or self.speed is None or is_late:
            self._position, self._position_at = time, self._clock()

    def _move_anchor(self) -> None:
        if self._position_at is not None:
            self._position, self._position_at = self.position, self._clock()
