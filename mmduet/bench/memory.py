"""Measure the resident memory of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    if STATM.exists():
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil  # for systems without this file, so that a GPU machine under Linux does not need the package

    return int(psutil.Process().memory_info().rss)


@contextmanager
def peak_memory(interval: float = 0.002) -> Iterator[list[int]]:
    """Sample the resident memory every ``interval`` seconds while the block runs; the only element of the list is the peak."""
    peak, stop = [resident_bytes()], Event()

    def sample() -> None:
        while not stop.wait(interval):
            peak[0] = max(peak[0], resident_bytes())

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()
        peak[0] = max(peak[0], resident_bytes())
