"""Open many sessions at once and close them, several times: measure whether the server returns their memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from mmduet.client import RemoteSession
from mmduet.protocol.server_events import FrameScored

WARM_UP_SESSIONS = 20
SETTLE_SECONDS = 5.0  # after the last session has closed: the server checks every two seconds
MAX_WARM_UP_RATIO, MAX_ROUND_RATIO = 1.10, 1.02


@dataclass(frozen=True)
class ReturnedMemory:
    """Resident memory of the server in MiB after its start, after a few sessions, and after each round of ``sessions``."""

    sessions: int
    start_mb: float
    warm_up_mb: float
    open_mb: tuple[float, ...]  # while the sessions of each round were open
    rounds_mb: tuple[float, ...]

    @property
    def faults(self) -> list[str]:
        """Descriptions of memory that was not returned."""
        found = []
        if self.rounds_mb[0] > MAX_WARM_UP_RATIO * self.warm_up_mb:
            found.append(f"{self.rounds_mb[0]:.0f} MiB after the first round, {self.warm_up_mb:.0f} after the warm-up")
        if self.rounds_mb[-1] > MAX_ROUND_RATIO * self.rounds_mb[0]:
            found.append(f"{self.rounds_mb[-1]:.0f} MiB after the last round, {self.rounds_mb[0]:.0f} after the first")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "sessions": self.sessions,
            "start_mb": self.start_mb,
            "warm_up_mb": self.warm_up_mb,
            "open_mb": self.open_mb,
            "rounds_mb": self.rounds_mb,
            "faults": self.faults,
        }


async def measure_returned_memory(
    url: str,
    pid: int,
    sessions: int,
    rounds: int,
    images: Sequence[bytes],
    report: Callable[[int, int], None],
    settle_seconds: float = SETTLE_SECONDS,
) -> ReturnedMemory:
    """Stream ``images`` to ``sessions`` sessions that are open at the same time, ``rounds`` times.

    ``pid`` is the server's process. ``report`` receives ``(done, total)`` rounds, the warm-up included.
    """
    server, total = psutil.Process(pid), rounds + 1
    start = _resident_mb(server)
    figures = []
    for done, count in enumerate([WARM_UP_SESSIONS, *[sessions] * rounds]):
        report(done, total)
        opened = await _run_round(url, count, images, server)
        await asyncio.sleep(settle_seconds)
        figures.append((opened, _resident_mb(server)))
    report(total, total)
    opened_mb, rounds_mb = zip(*figures[1:], strict=True)
    return ReturnedMemory(sessions, start, figures[0][1], opened_mb, rounds_mb)


async def _run_round(url: str, count: int, images: Sequence[bytes], server: psutil.Process) -> float:
    """Run the sessions; return the resident memory while all of them were open."""
    all_scored, open_mb = asyncio.Barrier(count), 0.0

    async def run() -> None:
        nonlocal open_mb
        async with RemoteSession(url, block_when_behind=True) as session:
            for number, image in enumerate(images):
                await session.push(image, number / 2)
            waiting = len(images)
            async for event in session:
                waiting -= isinstance(event, FrameScored)
                if not waiting:
                    break
            await all_scored.wait()
            open_mb = open_mb or _resident_mb(server)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(run())
    return open_mb


def _resident_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20
