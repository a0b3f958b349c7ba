"""Offer a server more live streams than it can serve, and measure those that it admits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmduet.bench.serve import Load, percentile
from mmduet.client import RemoteSession
from mmduet.errors import CapacityError
from mmduet.protocol import server_events

RETRY_SECONDS = 2.0
MAX_AGE_MS, MAX_DROPPED_PERCENT = 1000.0, 2.0


@dataclass
class StreamTally:
    """What one client received for the frames that it sent in the measured part. Times in milliseconds.

    ``delays`` are measured by the client, from sending a frame to receiving its scores; ``ages`` by the server.
    """

    admitted: bool = False
    ages: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    dropped: int = 0


@dataclass(frozen=True)
class OverloadResult:
    """The result of all clients. Times in milliseconds; ``dropped`` counts frames without scores, for any reason."""

    load: Load
    admitted: int
    frames: int
    dropped: int
    age_p50: float
    age_p99: float
    delay_p50: float
    delay_p99: float

    @property
    def refused(self) -> int:
        """Number of streams that were never admitted."""
        return self.load.streams - self.admitted

    @property
    def dropped_percent(self) -> float:
        """Dropped frames in percent of those sent."""
        return 100 * self.dropped / max(self.frames + self.dropped, 1)

    @property
    def faults(self) -> list[str]:
        """What is wrong with the service of the admitted streams."""
        faults = []
        if not self.admitted:
            faults.append("no stream was admitted")
        if self.age_p99 > MAX_AGE_MS:
            faults.append(f"one frame in a hundred was scored after more than {MAX_AGE_MS:.0f} ms")
        if self.dropped_percent > MAX_DROPPED_PERCENT:
            faults.append(f"more than {MAX_DROPPED_PERCENT:g} % of the frames were dropped")
        return faults

    def to_dict(self) -> dict[str, Any]:
        """Return the result under the names of its JSON file."""
        return {
            "offered": self.load.streams,
            "fps": self.load.fps,
            "seconds": self.load.seconds,
            "admitted": self.admitted,
            "refused": self.refused,
            "frames": self.frames,
            "dropped": self.dropped,
            "dropped_percent": self.dropped_percent,
            "age_p50": self.age_p50,
            "age_p99": self.age_p99,
            "delay_p50": self.delay_p50,
            "delay_p99": self.delay_p99,
            "faults": self.faults,
        }


def measure_overload(url: str, load: Load, images: Sequence[bytes], key: str | None = None) -> OverloadResult:
    """Offer all streams of the load at once.

    A stream that is refused tries again every two seconds during the first half of the time. The second half is measured.
    Raises the errors of ``RemoteSession`` except ``CapacityError``.
    """
    tallies = asyncio.run(_run_clients(url, load, images, key))
    ages = [age for tally in tallies for age in tally.ages]
    delays = [delay for tally in tallies for delay in tally.delays]
    return OverloadResult(
        load,
        admitted=sum(tally.admitted for tally in tallies),
        frames=len(ages),
        dropped=sum(tally.dropped for tally in tallies),
        age_p50=percentile(ages, 50),
        age_p99=percentile(ages, 99),
        delay_p50=percentile(delays, 50),
        delay_p99=percentile(delays, 99),
    )


async def _run_clients(url: str, load: Load, images: Sequence[bytes], key: str | None) -> list[StreamTally]:
    start = asyncio.get_running_loop().time()
    clients = (
        _run_client(url, load, start, images[number % len(images) :] or images, key) for number in range(load.streams)
    )
    return await asyncio.gather(*clients)


async def _run_client(url: str, load: Load, start: float, images: Sequence[bytes], key: str | None) -> StreamTally:
    loop, tally = asyncio.get_running_loop(), StreamTally()
    measured_from = start + load.seconds / 2
    while not tally.admitted:
        try:
            async with RemoteSession(url, key=key) as session:
                tally.admitted = True
                await _stream(session, tally, load, start, images)
        except CapacityError:
            if tally.admitted:
                raise
            await asyncio.sleep(RETRY_SECONDS)
            if loop.time() > measured_from:
                break
    return tally


async def _stream(
    session: RemoteSession, tally: StreamTally, load: Load, start: float, images: Sequence[bytes]
) -> None:
    """Send frames until the end of the load, and record the outcomes of those sent in its second half."""
    loop, sent = asyncio.get_running_loop(), dict[int, float]()
    await session.update(duet={"fps": None})
    if load.query is not None:
        await session.ask(load.query)
    collecting = asyncio.create_task(_collect(session, tally, sent, start + load.seconds / 2))
    began, number = loop.time(), 0
    while (due := began + number / load.fps) < start + load.seconds:
        await asyncio.sleep(max(due - loop.time(), 0))
        sent[number] = loop.time()
        await session.push(images[number % len(images)], number / load.fps)
        number += 1
    await session.end()
    await collecting


async def _collect(session: RemoteSession, tally: StreamTally, sent: dict[int, float], measured_from: float) -> None:
    loop = asyncio.get_running_loop()
    async for event in session:
        if not isinstance(event, server_events.FrameScored | server_events.FrameDropped):
            continue
        sent_at = sent.pop(event.seq)
        if sent_at < measured_from:
            continue
        if isinstance(event, server_events.FrameScored):
            tally.ages.append(event.age_ms)
            tally.delays.append(1000 * (loop.time() - sent_at))
        else:
            tally.dropped += 1
