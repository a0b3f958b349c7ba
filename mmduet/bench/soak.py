"""Plays one scene over and over to a session for as long as is asked, and measures what must not change; loads nothing.

A lap is the scene played once. From the second lap on, whatever is in view is what was in view a lap ago, so scores and
decisions must recur, memory must stay, and a step must take what it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from mmduet.bench.memory import resident_bytes
from mmduet.engine import Engine, Session
from mmduet.engine.session import PreparedFrame
from mmduet.errors import OptionError
from mmduet.events import Frame, Output, Query, Reply, Scores, SessionFailed
from mmduet.options import SessionOptions

EARLY_FRAMES = slice(1000, 2000)  # frames whose steps are compared with the last thousand
WARM_UP_FRAMES = 2000  # frames after which memory is watched
MEMORY_INTERVAL = 100  # frames from one look at the memory to the next
MAX_GROWTH, MAX_SLOWDOWN = 1.0, 1.1  # MB per hour of stream, and in all; late over early step time
MAX_SCORE_CHANGE = 1e-3  # of a score
MIB = 2**20
_FrameResult = tuple[float, float, bool, tuple[str, ...]]  # both scores, whether it spoke, what it said
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SoakReport:
    """What was seen. ``*_mb`` are MiB of resident memory; ``changed_decisions`` counts frames that decided otherwise, or
    said something else, than in the second lap; ``largest_score_change`` is against that lap too."""

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

    @property
    def faults(self) -> list[str]:
        """What should not have happened, in words."""
        found = []
        if self.growth_mb_per_hour > MAX_GROWTH and self.last_mb - self.first_mb > MAX_GROWTH:
            found.append(f"memory grew by {self.growth_mb_per_hour:.2f} MB an hour, at most {MAX_GROWTH} is meant")
        if self.late_step_ms > MAX_SLOWDOWN * self.early_step_ms:
            found.append(f"steps became {self.late_step_ms / self.early_step_ms:.2f} times slower")
        if self.changed_decisions:
            found.append(f"{self.changed_decisions} decisions were others than in the second lap")
        if self.largest_score_change > MAX_SCORE_CHANGE:
            found.append(f"a score moved by {self.largest_score_change:.2g}, at most {MAX_SCORE_CHANGE} is meant")
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
            "faults": self.faults,
        }


@dataclass
class _Log:
    """What is noted on the way; nearly of a fixed size, so that what is measured is not the measuring."""

    frames: int
    seen: int = 0
    replies: int = 0
    changed: int = 0
    largest: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)  # (frames seen, bytes)

    def __post_init__(self) -> None:
        self.step_seconds = np.empty(self.frames, np.float32)
        self.step_seconds.fill(0)  # touched now: pages that come later would count as growth


def run_soak(
    engine: Engine,
    lap: Sequence[PreparedFrame],
    options: SessionOptions,
    query: str,
    fps: float,
    frames: int,
    progress: Progress | None = None,
) -> SoakReport:
    """Watch ``frames`` frames, ``lap`` over and over. An interruption ends it early, with a report of what there was.

    Raises ``OptionError`` without a window, and where laps could not be compared: too few, shorter than the window, or under
    a running sum.
    """
    if options.window is None or options.window > len(lap):
        raise OptionError(
            f"the window is {options.window or 'none'}; give one of 1 to {len(lap)} frames, which are a lap"
        )
    if options.speak.policy == "sum":
        raise OptionError("under a running sum a lap does not decide what the lap before did; give a threshold")
    if frames < EARLY_FRAMES.stop + 1000 or frames < 3 * len(lap):
        raise OptionError(
            f"a stream of {frames} frames is too short; give {EARLY_FRAMES.stop + 1000} or more, and three laps of {len(lap)}"
        )
    log = _Log(frames)
    second: list[_FrameResult] = []  # what was seen in the second lap: the first had no lap before it
    session = engine.open(options)
    engine.push(session, Query(query))
    began = time.perf_counter()
    try:
        for k in range(frames):
            _watch(engine, session, _at(lap[k % len(lap)], k, fps), len(lap), second, log)
            if k % MEMORY_INTERVAL == 0:
                log.memory.append((k, resident_bytes()))
                if progress:
                    progress(k, frames)
    except KeyboardInterrupt:
        if log.seen < EARLY_FRAMES.stop + 1000:
            raise
    finally:
        engine.close(session)
    return _report(log, len(lap), fps, time.perf_counter() - began)


def _at(picture: PreparedFrame, index: int, fps: float) -> PreparedFrame:
    return PreparedFrame(Frame(index, index / fps, picture.frame.image, index), picture.pixels)


def _watch(
    engine: Engine, session: Session, picture: PreparedFrame, lap: int, second: list[_FrameResult], log: _Log
) -> None:
    """One frame and what is said after it; from the third lap on compared with the same frame of the second."""
    index = picture.frame.index
    engine.push(session, picture)
    began = time.perf_counter()
    outputs: list[Output] = [output for _, output in engine.step()]
    log.step_seconds[index] = time.perf_counter() - began
    while engine.busy:
        outputs += [output for _, output in engine.step()]
    now = _seen(outputs)
    if index >= 2 * lap:
        then = second[index % lap]
        log.largest = max(log.largest, abs(now[0] - then[0]), abs(now[1] - then[1]))
        log.changed += now[2:] != then[2:]
    elif index >= lap:
        second.append(now)
    log.replies += len(now[3])
    log.seen = index + 1


def _seen(outputs: Sequence[Output]) -> _FrameResult:
    failed = next((o for o in outputs if isinstance(o, SessionFailed)), None)
    if failed is not None:
        raise failed.as_error()
    scores = next(o for o in outputs if isinstance(o, Scores))
    said = tuple(o.text for o in outputs if isinstance(o, Reply))
    return scores.informative, scores.relevance, scores.speak, said


def _report(log: _Log, lap: int, fps: float, wall: float) -> SoakReport:
    watched = [(frame / fps / 3600, size / MIB) for frame, size in log.memory if frame >= WARM_UP_FRAMES]
    hours, sizes = np.array(watched).T
    steps = 1000 * log.step_seconds[: log.seen]
    return SoakReport(
        stream_hours=log.seen / fps / 3600,
        wall_seconds=wall,
        frames=log.seen,
        laps=log.seen // lap,
        replies=log.replies,
        first_mb=float(sizes[0]),
        last_mb=float(sizes[-1]),
        growth_mb_per_hour=float(np.polyfit(hours, sizes, 1)[0]) if len(sizes) > 1 else 0.0,
        early_step_ms=float(median(steps[EARLY_FRAMES])),
        late_step_ms=float(median(steps[-1000:])),
        changed_decisions=log.changed,
        largest_score_change=log.largest,
    )
