"""Select frames of a stream at a rate, by timestamp or by the paper's clock, without accessing their images.

Both samplers are lazy and iterate over their input once, so they work on live sources as well as on files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol, TypeVar

from mmduet.errors import OptionError

TICK_TOLERANCE = 1e-6
"""Seconds by which a frame may precede its tick, to allow for rounding in floats and containers (1/90000 s and finer)."""


class Timed(Protocol):
    """Anything with a time in seconds."""

    @property
    def time(self) -> float: ...


T = TypeVar("T")
TimedT = TypeVar("TimedT", bound=Timed)


def sample_by_pts(frames: Iterable[TimedT], fps: float | None, max_frames: int | None = None) -> Iterator[TimedT]:
    """Yield for each tick i/fps the first frame at or after it, with its own time (profile ``fixed``).

    ``frames`` must be in order of time. A frame is selected at most once: if a gap spans several ticks, the frame after the
    gap is selected for all of them. ``fps=None`` selects every frame. Raises OptionError unless ``fps`` and ``max_frames``
    are positive.
    """
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    return first_n(frames if fps is None else _at_ticks(frames, fps), max_frames)


def sample_by_clock(
    frames: Iterable[T], input_fps: float, fps: float | None, max_frames: int | None = None
) -> Iterator[tuple[float, T]]:
    """Yield pairs (time, frame) as the reference implementation selects them, float drift included (profile ``paper``).

    The input clock starts at 0, is compared with i/fps, and increases by 1/input_fps *after* each frame, so frame k (from 0)
    has the float sum of k increments. At 30 fps the sum of thirty is just under 1.0, so frame 31 is selected for t=1 s. The
    time yielded is a separate sum, of 1/fps per selected frame. ``fps=None`` selects every frame. Raises OptionError unless
    the rates and ``max_frames`` are positive.
    """
    check_rate("input_fps", input_fps)
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    rate = input_fps if fps is None else fps
    selected = frames if fps is None else _at_clock(frames, input_fps, fps)
    return first_n(with_clock(selected, rate), max_frames)


def paper_frame_count(duration: float, fps: float, max_frames: int | None = None) -> int:
    """Return the number of frames that the reference samples from ``duration`` seconds."""
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    if not (math.isfinite(duration) and duration >= 0):
        raise OptionError(f"duration must be a finite number of seconds, at least 0, got {duration}")
    count = math.ceil(duration * fps)
    return count if max_frames is None else min(count, max_frames)


def expected_frames(profile: Literal["fixed", "paper"], duration: float | None, fps: float | None) -> int | None:
    """Return to how many frames the ``paper`` profile limits a video of the declared duration; None if it does not."""
    if profile == "fixed" or fps is None or duration is None:
        return None
    return max(1, paper_frame_count(duration, fps))


def tick_count(seconds: float, fps: float) -> int:
    """Return the number of ticks i/fps in ``seconds``, at least 1: an upper bound for the frames that are selected."""
    return max(1, math.ceil(seconds * fps - TICK_TOLERANCE))


def even_rate(lengths: Sequence[float], fps: float, max_frames: int) -> float:
    """Return the highest rate up to ``fps`` at which videos of these lengths, in seconds, have ``max_frames`` frames in total.

    ``max_frames`` must be at least the number of videos, because each has a frame at least.
    """
    if sum(tick_count(seconds, fps) for seconds in lengths) <= max_frames:
        return fps
    return (max_frames - len(lengths) + 1) / sum(lengths)  # each video may have one frame more than its share


def check_rate(name: str, rate: float | None) -> None:
    """Raise OptionError unless the rate is None (every frame) or a positive finite number."""
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise OptionError(f"{name} must be a number above 0, or none for every frame, got {rate}")


def check_frame_limit(max_frames: int | None) -> None:
    """Raise OptionError unless the limit is None (no limit) or at least 1."""
    if max_frames is not None and max_frames < 1:
        raise OptionError(f"max_frames must be at least 1, or None for no limit, got {max_frames}")


class Sampler(Protocol):
    """Decides frame by frame, in order of time, which ones are selected. A copy can be asked in advance."""

    def accept(self, time: float) -> bool:
        """Return whether the frame at ``time`` seconds is selected. Call it once for each frame."""
        ...


class FrameSampler:
    """Decides frame by frame, in order of time, whether a frame is selected at the rate ``fps``; ``tick`` is the first tick."""

    def __init__(self, fps: float | None, tick: int = 0) -> None:
        check_rate("fps", fps)
        self._fps, self.next_tick = fps, tick  # the next tick that needs a frame

    def accept(self, time: float) -> bool:
        """Return whether the frame at ``time`` seconds is selected. Call it once for each frame."""
        tolerant_time = time + TICK_TOLERANCE
        if self._fps is None:
            return True
        if tolerant_time < self.next_tick / self._fps:  # divide each time: a running sum would drift
            return False
        self.next_tick = _first_tick_after(tolerant_time, self._fps)
        return True


class ClockSampler:
    """Decides frame by frame, by the reference's clock, whether a frame is selected; see ``sample_by_clock``."""

    def __init__(self, input_fps: float, fps: float) -> None:
        check_rate("input_fps", input_fps)
        check_rate("fps", fps)
        self._input_fps, self._fps = input_fps, fps
        self._clock, self._selected = 0.0, 0

    def accept(self, time: float) -> bool:
        """Return whether the next frame is selected; its own time does not count."""
        is_selected = self._clock >= self._selected / self._fps
        self._selected += is_selected
        self._clock += 1 / self._input_fps
        return is_selected


def _at_ticks(frames: Iterable[TimedT], fps: float) -> Iterator[TimedT]:
    sampler = FrameSampler(fps)
    return (frame for frame in frames if sampler.accept(frame.time))


def _first_tick_after(time: float, fps: float) -> int:
    tick = max(math.floor(time * fps), 0)
    while tick / fps <= time:  # at most two steps: the product may round either way
        tick += 1
    return tick


def _at_clock(frames: Iterable[T], input_fps: float, fps: float) -> Iterator[T]:
    sampler = ClockSampler(input_fps, fps)
    return (frame for frame in frames if sampler.accept(0.0))


def with_clock(frames: Iterable[T], fps: float) -> Iterator[tuple[float, T]]:
    """Yield the frames with times that are the float sum of 1/fps per frame."""
    clock = 0.0
    for frame in frames:
        yield clock, frame
        clock += 1 / fps


def first_n(items: Iterable[T], count: int | None) -> Iterator[T]:
    """Yield the first ``count`` items (None: all), without asking for another one."""
    if count is None:
        yield from items
        return
    for number, item in enumerate(items, start=1):
        yield item
        if number == count:  # stop here: another next() would decode up to the next tick
            return
