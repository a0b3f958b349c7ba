"""Repeat one scene in a session for hours, and check that scores, decisions, memory and step times do not change.

A lap is one repetition of the scene. From the second lap on, the window holds the same frames as one lap before, so scores and
decisions must recur.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.bench.device_memory import allocated_bytes, peak_bytes
from mmduet.bench.memory import resident_bytes
from mmduet.engine import Engine, Session
from mmduet.engine.session import PreparedFrame
from mmduet.errors import OptionError
from mmduet.events import Frame, Output, Query, Reply, Scores, SessionFailed
from mmduet.options import SessionOptions

EARLY_FRAMES = slice(1000, 2000)  # their step times are compared with those of the last LATE_FRAMES
LATE_FRAMES = 1000
MIN_FRAMES = EARLY_FRAMES.stop + LATE_FRAMES
WARM_UP_FRAMES = 2000  # after which memory counts
MEMORY_INTERVAL = 100  # frames between two measurements of memory
MAX_GROWTH_MB = 1.0  # per hour of stream, and in total
MAX_SLOWDOWN = 1.1  # ratio of late to early step time
MAX_SCORE_CHANGE = 1e-3
MIB = 2**20
_FrameResult = tuple[float, float, bool, tuple[str, ...]]  # informative and relevance score, decision to speak, replies


@dataclass(frozen=True)
class SoakReport:
    """The result of a run. ``*_mb`` are MiB of resident memory, ``device_*_mb`` of tensors on the GPU, None on a CPU.

    ``changed_decisions`` counts frames with another decision or other replies than in the second lap;
    ``largest_score_change`` is relative to that lap, too.
    """

    stream_hours: float
    wall_seconds: float
    frames: int
    laps: int
    replies: int
    first_mb: float
    last_mb: float
    growth_mb_per_hour: float
    early_step_ms: float
    late_step_ms: float
    changed_decisions: int
    largest_score_change: float
    device_peak_mb: float | None = None
    device_growth_mb_per_hour: float | None = None

    @property
    def faults(self) -> list[str]:
        """Descriptions of everything that is wrong; empty for a run without faults."""
        found = []
        if self.growth_mb_per_hour > MAX_GROWTH_MB and self.last_mb - self.first_mb > MAX_GROWTH_MB:
            found.append(
                f"memory grew by {self.growth_mb_per_hour:.2f} MiB per hour, at most {MAX_GROWTH_MB} is expected"
            )
        if (growth := self.device_growth_mb_per_hour or 0.0) > MAX_GROWTH_MB:
            found.append(f"memory on the device grew by {growth:.2f} MiB per hour, at most {MAX_GROWTH_MB} is expected")
        if self.late_step_ms > MAX_SLOWDOWN * self.early_step_ms:
            found.append(f"steps became {self.late_step_ms / self.early_step_ms:.2f} times slower")
        if self.changed_decisions:
            found.append(f"{self.changed_decisions} decisions differed from those of the second lap")
        if self.largest_score_change > MAX_SCORE_CHANGE:
            found.append(f"a score changed by {self.largest_score_change:.2g}, at most {MAX_SCORE_CHANGE} is expected")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report under the names of its JSON file."""
        return {
            "stream_hours": self.stream_hours,
            "wall_seconds": self.wall_seconds,
            "frames": self.frames,
            "laps": self.laps,
            "replies": self.replies,
            "first_mb": self.first_mb,
            "last_mb": self.last_mb,
            "growth_mb_per_hour": self.growth_mb_per_hour,
            "early_step_ms": self.early_step_ms,
            "late_step_ms": self.late_step_ms,
            "changed_decisions": self.changed_decisions,
            "largest_score_change": self.largest_score_change,
            **self._device_fields(),
            "faults": self.faults,
        }

    def _device_fields(self) -> dict[str, float]:
        if self.device_peak_mb is None or self.device_growth_mb_per_hour is None:
            return {}
        return {
            "device_peak_mb": self.device_peak_mb,
            "device_growth_mb_per_hour": self.device_growth_mb_per_hour,
        }


@dataclass
class _Recorder:
    """Measurements of a run. Their size is almost constant, so that they do not appear as growth of memory."""

    frames: int
    lap_frames: int
    processed: int = 0
    replies: int = 0
    changed: int = 0
    largest_change: float = 0.0
    memory: list[tuple[int, int, int]] = field(default_factory=list)  # (index of the frame, bytes, bytes on the device)
    second_lap: list[_FrameResult] = field(default_factory=list)  # the first lap has no full window

    def __post_init__(self) -> None:
        self.step_seconds = np.empty(self.frames, np.float32)
        self.step_seconds.fill(0)  # write to the pages now: pages that are touched later would count as growth

    def add(self, index: int, result: _FrameResult) -> None:
        """Record the result of a frame; from the third lap on compare it with the same frame of the second."""
        lap, position = divmod(index, self.lap_frames)
        if lap >= 2:
            expected = self.second_lap[position]
            self.largest_change = max(self.largest_change, abs(result[0] - expected[0]), abs(result[1] - expected[1]))
            self.changed += result[2:] != expected[2:]
        elif lap == 1:
            self.second_lap.append(result)
        self.replies += len(result[3])
        self.processed = index + 1


def run_soak(
    engine: Engine,
    lap: Sequence[PreparedFrame],
    options: SessionOptions,
    query: str,
    fps: float,
    frames: int,
    progress: Callable[[int, int], None] | None = None,
) -> SoakReport:
    """Process ``frames`` frames, ``lap`` again and again. Ctrl-C ends the run early, with a report of the frames so far.

    Raises:
        OptionError: ``options`` set no window, or laps cannot be compared: too few, shorter than the window, or a running sum.
    """
    _check_options(options, len(lap), frames)
    recorder, device = _Recorder(frames, len(lap)), engine.model.network.device
    session = engine.open(options)
    engine.push(session, Query(query))
    start = time.perf_counter()
    try:
        for index in range(frames):
            image = lap[index % len(lap)]
            frame = PreparedFrame(Frame(index, index / fps, image.frame.image, index), image.pixels)
            recorder.add(index, _process(engine, session, frame, recorder))
            if index % MEMORY_INTERVAL == 0:
                recorder.memory.append((index, resident_bytes(), allocated_bytes(device)))
                if progress:
                    progress(index, frames)
    except KeyboardInterrupt:
        if recorder.processed < MIN_FRAMES:
            raise
    finally:
        engine.close(session)
    return _report(recorder, fps, time.perf_counter() - start, peak_bytes(device))


def _check_options(options: SessionOptions, lap_frames: int, frames: int) -> None:
    if options.window is None or options.window > lap_frames:
        raise OptionError(
            f"the window must be at most one lap, 1 to {lap_frames} frames, got {options.window or 'none'}"
        )
    if options.speak.policy == "sum":
        raise OptionError("the speak policy must not be a running sum, which differs from lap to lap; use a threshold")
    if frames < MIN_FRAMES or frames < 3 * lap_frames:
        raise OptionError(
            f"a stream needs at least {MIN_FRAMES} frames and three laps of {lap_frames}, got {frames} frames; "
            "increase the hours"
        )


def _process(engine: Engine, session: Session, frame: PreparedFrame, recorder: _Recorder) -> _FrameResult:
    """Process one frame and the replies after it; record the time of the frame's step."""
    engine.push(session, frame)
    start = time.perf_counter()
    outputs: list[Output] = [output for _, output in engine.step()]
    recorder.step_seconds[frame.frame.index] = time.perf_counter() - start
    while engine.busy:
        outputs += [output for _, output in engine.step()]
    failure = next((output for output in outputs if isinstance(output, SessionFailed)), None)
    if failure is not None:
        raise failure.as_error()
    scores = next(output for output in outputs if isinstance(output, Scores))
    replies = tuple(output.text for output in outputs if isinstance(output, Reply))
    return scores.informative, scores.relevance, scores.speak, replies


def _report(recorder: _Recorder, fps: float, wall_seconds: float, device_peak: int | None) -> SoakReport:
    """Return the report; ``device_peak`` is the largest memory of tensors on a GPU in bytes, None on a CPU."""
    samples = [sample for sample in recorder.memory if sample[0] >= WARM_UP_FRAMES]
    hours, sizes, device_sizes = np.array(samples).T / np.array([[fps * 3600], [MIB], [MIB]])
    steps_ms = 1000 * recorder.step_seconds[: recorder.processed]
    return SoakReport(
        stream_hours=recorder.processed / fps / 3600,
        wall_seconds=wall_seconds,
        frames=recorder.processed,
        laps=recorder.processed // recorder.lap_frames,
        replies=recorder.replies,
        first_mb=float(sizes[0]),
        last_mb=float(sizes[-1]),
        growth_mb_per_hour=_slope(hours, sizes),
        early_step_ms=float(median(steps_ms[EARLY_FRAMES])),
        late_step_ms=float(median(steps_ms[-LATE_FRAMES:])),
        changed_decisions=recorder.changed,
        largest_score_change=recorder.largest_change,
        device_peak_mb=None if device_peak is None else device_peak / MIB,
        device_growth_mb_per_hour=None if device_peak is None else _slope(hours, device_sizes),
    )


def _slope(hours: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Return the growth per hour of a straight line through the sizes, 0 for a single one."""
    return float(np.polyfit(hours, sizes, 1)[0]) if len(sizes) > 1 else 0.0
