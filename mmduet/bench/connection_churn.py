"""Open and close many sessions: measure how long connecting takes, and whether memory or files leak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from mmduet.client import RemoteSession

MAX_CONCURRENT = 8  # clients
SETTLE_SECONDS = (
    3.0  # until the server has closed the last sessions and returned their memory, which it checks every 2 s
)
MAX_GROWTH_MB, MAX_FILE_GROWTH = 16.0, 4  # in the second half; not 0, because allocators keep some pages


@dataclass(frozen=True)
class ConnectionChurn:
    """The result for ``connects`` sessions of one frame each. Growth is that of the second half, in MiB and open files."""

    connects: int
    milliseconds_p50: float
    milliseconds_p99: float
    memory_growth_mb: float
    file_growth: int

    @property
    def faults(self) -> list[str]:
        """Descriptions of all leaks; empty if the server passed."""
        found = []
        if self.memory_growth_mb > MAX_GROWTH_MB:
            found.append(f"memory grew by {self.memory_growth_mb:.1f} MiB in the second half")
        if self.file_growth > MAX_FILE_GROWTH:
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
    """Open and close ``count`` sessions, a few at a time; ``pid`` is the server's process.

    ``report`` receives the number of sessions so far.
    """
    server, connect_ms = psutil.Process(pid), []
    numbers = iter(range(count))
    middle: tuple[float, int] | None = None

    async def run_client() -> None:
        nonlocal middle
        for number in numbers:
            if number == count // 2:
                middle = _resource_usage(server)
            start = time.perf_counter()
            async with RemoteSession(url, key=key) as session:
                connect_ms.append(1000 * (time.perf_counter() - start))
                await session.push(image, 0.0)
            report(number + 1)

    await asyncio.gather(*(run_client() for _ in range(MAX_CONCURRENT)))
    await asyncio.sleep(SETTLE_SECONDS)
    assert middle is not None
    after = _resource_usage(server)
    p50, p99 = (float(np.percentile(connect_ms, percent)) for percent in (50, 99))
    return ConnectionChurn(len(connect_ms), p50, p99, after[0] - middle[0], after[1] - middle[1])


def _resource_usage(server: psutil.Process) -> tuple[float, int]:
    """Return the resident memory in MiB and the number of file descriptors."""
    return server.memory_info().rss / 2**20, server.num_fds()
