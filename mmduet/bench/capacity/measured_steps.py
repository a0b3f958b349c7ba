"""Reads the steps that ``mmduet bench engine`` has measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mmduet.errors import OptionError

HINT = "write one with `mmduet bench engine --json FILE`"


@dataclass(frozen=True)
class StepSize:
    """What a step computes: the streams that take part, the frames among their input, and all their tokens."""

    streams: int
    frames: int
    tokens: int


@dataclass(frozen=True)
class MeasuredStep:
    """One step and its duration in seconds."""

    size: StepSize
    seconds: float


def read_steps(path: Path) -> list[MeasuredStep]:
    """Return all steps of a report of ``mmduet bench engine``, or of a list of its steps.

    Raises ``OptionError`` for any other file.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} is not a readable JSON file: {error}; {HINT}") from None
    try:
        rows = report if isinstance(report, list) else [step for run in report["runs"] for step in run["steps"]]
        steps = [_parse_step(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(f"{path} has no list of steps ({type(error).__name__}: {error}); {HINT}") from None
    if not steps:
        raise OptionError(f"{path} has no steps; {HINT}")
    return steps


def _parse_step(row: dict[str, Any]) -> MeasuredStep:
    size = StepSize(int(row["streams"]), int(row.get("frames", 0)), int(row["tokens"]))
    seconds = float(row["seconds"])
    if not (size.streams >= 1 and size.tokens >= size.streams and 0 <= size.frames <= size.streams and seconds > 0):
        raise ValueError(f"step {row} is impossible")
    return MeasuredStep(size, seconds)


def frame_tokens(steps: Sequence[MeasuredStep]) -> int | None:
    """Return the tokens of a frame with the text around it: the median of steps with frames only; None without any."""
    counts = [step.size.tokens / step.size.frames for step in steps if step.size.frames == step.size.streams]
    return round(median(counts)) if counts else None
