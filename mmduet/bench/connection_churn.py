"""Clients that come and go: how long each takes to be let in, and whether anything of them stays behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from mmduet.client import RemoteSession

TOGETHER = 8
MOST_MB, MOST_FILES = 16.0, 4  # what the second half may add; allocators keep some pages for themselves


@dataclass(frozen=True)
class ConnectionChurn:
    """``connects`` sessions were opened, shown one frame and left. Growth is that of the second half."""

    connects: int
    milliseconds_p50: float
    milliseconds_p99: float
    memory_growth_mb: float
    file_growth: int

    @property
    def faults(self) -> list[str]:
        """What stayed behind."""
        found = []
        if self.memory_growth_mb > MOST_MB:
            found.append(f"memory grew by {self.memory_growth_mb:.1f} MB in the second half")
        if self.file_growth > MOST_FILES:
            found.append(f"{self.file_growth} more files are open than in the middle")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "connects": self.connects,
            "milliseconds_p50": self.milliseconds_p50,
            "milliseconds_p99": self.milliseconds_p99,
            "memory_growth_mb": self.memory_growth_mb,
            "file_growth": self.file_growth,
            "faults": self.faults,
        }


async def measure_connection_churn(
    url: str,
    pid: int,
    count: int,
    image: bytes,
    key: str | None = None,
    report: Callable[[int], None] = lambda n: None,
) -> ConnectionChurn:
    """Come and go ``count`` times, a few at a time; ``pid`` is the server's process."""
    server, took = psutil.Process(pid), []
    numbers = iter(range(count))
    middle: tuple[float, int] | None = None

    async def come_and_go() -> None:
        nonlocal middle
        for number in numbers:
            if number == count // 2:
                middle = _resource_usage(server)
            begun = time.perf_counter()
            async with RemoteSession(url, key=key) as session:
                took.append(1000 * (time.perf_counter() - begun))
                await session.push(image, 0.0)
            report(number + 1)

    await asyncio.gather(*(come_and_go() for _ in range(TOGETHER)))
    await asyncio.sleep(1.0)  # the last ones are let go
    assert middle is not None
    after = _resource_usage(server)
    p50, p99 = (float(np.percentile(took, percent)) for percent in (50, 99))
    return ConnectionChurn(len(took), p50, p99, after[0] - middle[0], after[1] - middle[1])


def _resource_usage(server: psutil.Process) -> tuple[float, int]:
    """Megabytes and file descriptors."""
    return server.memory_info().rss / 2**20, server.num_fds()
