"""Select frames of a stream at a rate, by timestamp or by the paper's clock, without reading images.

Both samplers are lazy and read their input once, so they sit as well on a live source as on a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, TypeVar

from mmduet.errors import OptionError

TICK_TOLERANCE = 1e-6
"""Seconds a frame may be early for its tick: what float and container rounding (1/90000 s and finer) can cost."""


class Timed(Protocol):
    """Anything with a time in seconds."""

    @property
    def time(self) -> float: ...


T = TypeVar("T")
TimedT = TypeVar("TimedT", bound=Timed)


def sample_by_pts(frames: Iterable[TimedT], fps: float | None, max_frames: int | None = None) -> Iterator[TimedT]:
    """For each tick i/fps, the first frame at or after it, with its own time (profile ``fixed``).

    ``frames`` come in order of time. A frame serves once: where a gap skips several ticks the frame after the gap
    answers for all of them, and the next tick is the first one after it. ``fps=None`` takes every frame. At most
    ``max_frames`` are taken. Raises OptionError for an fps or a max_frames that is not positive.
    """
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    return _first_n(frames if fps is None else _at_ticks(frames, fps), max_frames)


def sample_by_clock(
    frames: Iterable[T], input_fps: float, fps: float | None, max_frames: int | None = None
) -> Iterator[tuple[float, T]]:
    """Pairs (clock, frame) as the reference picks them (profile ``paper``), its float drift included.

    The input clock starts at 0, is compared with i/fps, and grows by 1/input_fps *after* each frame: frame k (from 0)
    is seen at the float sum of k increments. At 30 fps the sum of thirty is just under 1.0, so t=1 s takes frame 31.
    The clock handed out is another sum, of 1/fps per frame taken. ``fps=None`` takes every frame. Raises OptionError
    for a rate or a max_frames that is not positive.
    """
    check_rate("input_fps", input_fps)
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    rate = input_fps if fps is None else fps
    taken = frames if fps is None else _at_clock(frames, input_fps, fps)
    return _first_n(_clocked(taken, rate), max_frames)


def paper_frame_count(
    duration: float, fps: float, max_frames: int | None = None, rounding: Literal["ceil", "floor"] = "ceil"
) -> int:
    """Return how many frames the reference samples from ``duration`` seconds, rounded up (evaluation) or down (demo)."""
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    if not (math.isfinite(duration) and duration >= 0):
        raise OptionError(f"duration {duration} is not a length in seconds; give a number from 0 up")
    count = math.ceil(duration * fps) if rounding == "ceil" else math.floor(duration * fps)
    return count if max_frames is None else min(count, max_frames)


def frame_limit(
    profile: Literal["fixed", "paper"], duration: float | None, fps: float | None, max_frames: int | None
) -> int | None:
    """Return the maximum number of frames; the paper's profile also limits it by the declared duration."""
    if profile == "fixed" or fps is None or duration is None:
        return max_frames
    return max(1, paper_frame_count(duration, fps, max_frames))


def check_rate(name: str, rate: float | None) -> None:
    """Raise OptionError unless the rate is None (every frame) or a positive finite number."""
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise OptionError(f"{name} {rate} is not a frame rate; give a number above 0, or none for every frame")


def check_frame_limit(max_frames: int | None) -> None:
    """Raise OptionError unless the cap is None (no cap) or at least 1."""
    if max_frames is not None and max_frames < 1:
        raise OptionError(f"max_frames {max_frames} must be at least 1, or None for no limit")


class FrameSampler:
    """Decides for each frame, in order of time, whether it is the one for a tick of the rate."""

    def __init__(self, fps: float | None, tick: int = 0) -> None:
        check_rate("fps", fps)
        self._fps, self.next_tick = fps, tick  # the next tick without a frame

    def accept(self, time: float) -> bool:
        """Return whether the frame at ``time`` seconds is selected. Call it once for each frame."""
        late = time + TICK_TOLERANCE
        if self._fps is None:
            return True
        if late < self.next_tick / self._fps:  # divided each time: a running sum would drift
            return False
        self.next_tick = _first_tick_after(late, self._fps)
        return True


def _at_ticks(frames: Iterable[TimedT], fps: float) -> Iterator[TimedT]:
    ticks = FrameSampler(fps)
    return (frame for frame in frames if ticks.accept(frame.time))


def _first_tick_after(time: float, fps: float) -> int:
    tick = max(math.floor(time * fps), 0)
    while tick / fps <= time:  # at most two steps: the product may round either way
        tick += 1
    return tick


def _at_clock(frames: Iterable[T], input_fps: float, fps: float) -> Iterator[T]:
    clock, taken = 0.0, 0
    for frame in frames:
        if clock >= taken / fps:
            yield frame
            taken += 1
        clock += 1 / input_fps


def _clocked(frames: Iterable[T], fps: float) -> Iterator[tuple[float, T]]:
    clock = 0.0
    for frame in frames:
        yield clock, frame
        clock += 1 / fps


def _first_n(items: Iterable[T], count: int | None) -> Iterator[T]:
    if count is None:
        yield from items
        return
    for taken, item in enumerate(items, start=1):
        yield item
        if taken == count:  # stop here: asking for one more would decode on to the next tick for nothing
            return
