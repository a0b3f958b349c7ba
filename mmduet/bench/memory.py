"""How much memory this process holds; knows the operating system, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psutil


def resident_bytes() -> int:
    """Bytes of this process that are in physical memory now."""
    return int(psutil.Process().memory_info().rss)


@contextmanager
def peak_memory(every: float = 0.002) -> Iterator[list[int]]:
    """While the block runs, samples every ``every`` seconds; afterwards the list holds the most bytes that were resident."""
    found, over = [resident_bytes()], Event()

    def look() -> None:
        while not over.wait(every):
            found[0] = max(found[0], resident_bytes())

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found[0] = max(found[0], resident_bytes())
