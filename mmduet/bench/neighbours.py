"""Measure how much slower a command becomes while other processes use the CPU cores."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mmduet.errors import OptionError

MAX_SLOWDOWN = {"one_neighbour": 1.5, "four_neighbours": 3.0, "two_runs": 2.2}
"""Limits of the ratios on two cores."""


@dataclass(frozen=True)
class Slowdown:
    """Wall time of the command on its own, in seconds, and how many times longer it takes beside others (medians)."""

    quiet_seconds: float
    one_neighbour: float
    four_neighbours: float
    two_runs: float

    @property
    def faults(self) -> list[str]:
        """Descriptions of the ratios above their limits."""
        return [
            f"{name} is {ratio:.2f} times the quiet time, the limit is {limit}"
            for name, limit in MAX_SLOWDOWN.items()
            if (ratio := getattr(self, name)) > limit
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "quiet_seconds": self.quiet_seconds,
            "one_neighbour": self.one_neighbour,
            "four_neighbours": self.four_neighbours,
            "two_runs": self.two_runs,
            "faults": self.faults,
        }


def measure_slowdown(video: Path, runs: int, report: Callable[[int, int], None]) -> Slowdown:
    """Run ``mmduet caption`` on a video ``runs`` times under each condition; ``report`` receives ``(done, total)``.

    The conditions alternate, so that a change of the machine's speed affects all of them. Raises ``OptionError`` if the command
    fails.
    """
    seconds: dict[str, list[float]] = {"quiet": [], "one_neighbour": [], "four_neighbours": [], "two_runs": []}
    for number in range(runs):
        seconds["quiet"] += _run_together(video, 1)
        with _busy_processes(1):
            seconds["one_neighbour"] += _run_together(video, 1)
        with _busy_processes(4):
            seconds["four_neighbours"] += _run_together(video, 1)
        seconds["two_runs"] += _run_together(video, 2)
        report(number + 1, runs)
    medians = {name: median(values) for name, values in seconds.items()}
    quiet = medians.pop("quiet")
    return Slowdown(quiet, **{name: value / quiet for name, value in medians.items()})


def _run_together(video: Path, count: int) -> list[float]:
    """Start ``count`` runs of the command at once and return how long each took, in seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "mmduet", "caption", str(video), "--quiet"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(count)]
    return [_wait(process, start) for process in processes]


def _wait(process: subprocess.Popen[bytes], start: float) -> float:
    _, errors = process.communicate()
    if process.returncode:
        raise OptionError(f"the measured command failed: {errors.decode(errors='replace').strip()}")
    return time.perf_counter() - start


@contextmanager
def _busy_processes(count: int) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Keep ``count`` processes computing during the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
