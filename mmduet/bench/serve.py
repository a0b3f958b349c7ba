"""Load a server with live streams at a fixed rate and measure the age of scored frames, and dropped frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmduet.client import RemoteSession, RemoteStream
from mmduet.errors import OptionError
from mmduet.protocol import server_events

WARM_UP_SHARE = 0.2
"""Share of a run, from its beginning, that is not counted: sessions open one after another."""


@dataclass(frozen=True)
class Load:
    """``streams`` live clients, each of which sends ``query`` once and ``fps`` frames per second for ``seconds``."""

    streams: int
    fps: float
    seconds: float
    query: str | None

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for values that are out of range."""
        if not (self.streams >= 1 and self.fps > 0 and self.seconds >= 2):
            raise OptionError(
                "a load needs at least 1 stream, more than 0 frames per second and at least 2 seconds, "
                f"got {self.streams}, {self.fps} and {self.seconds}"
            )


@dataclass
class ClientTally:
    """What one client received after the warm-up. Times in milliseconds."""

    ages: list[float] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    first_deltas: list[float] = field(default_factory=list)
    replies: int = 0
    unaccounted: int = 0


@dataclass(frozen=True)
class ServeResult:
    """The result of all clients. Times in milliseconds; ``late`` counts frames dropped because the server was behind."""

    load: Load
    frames: int
    late: int
    other_drops: int
    unaccounted: int
    age_p50: float
    age_p99: float
    replies: int
    first_delta_p50: float
    first_delta_p99: float

    @property
    def held(self) -> bool:
        """Whether 99 % of the frames were scored within the interval between frames, and none was dropped or lost."""
        return self.age_p99 <= 1000 / self.load.fps and not self.late and not self.unaccounted

    def to_dict(self) -> dict[str, Any]:
        """Return the result under the names of its JSON file."""
        return {
            "streams": self.load.streams,
            "fps": self.load.fps,
            "seconds": self.load.seconds,
            "held": self.held,
            "frames": self.frames,
            "late": self.late,
            "other_drops": self.other_drops,
            "unaccounted": self.unaccounted,
            "age_p50": self.age_p50,
            "age_p99": self.age_p99,
            "replies": self.replies,
            "first_delta_p50": self.first_delta_p50,
            "first_delta_p99": self.first_delta_p99,
        }


def measure_load(url: str, load: Load, images: Sequence[bytes], key: str | None = None) -> ServeResult:
    """Run the load; ``images`` are encoded frames, sent repeatedly. Raises the errors of ``RemoteSession``."""
    return asyncio.run(_measure(url, load, images, key))


def recommended_query(url: str, key: str | None = None) -> str:
    """Return the query that the served model recommends, or a general one."""
    with RemoteStream(url, key=key) as stream:
        return stream.session.duet.query or "Narrate."


def find_max_streams(first: Load, measure: Callable[[Load], ServeResult]) -> ServeResult | None:
    """Return the result of the largest number of streams that is held, or None if not even one stream is.

    The number of ``first`` is doubled until the load is not held; then the interval between is bisected.
    """
    best: ServeResult | None = None
    streams, above = first.streams, 0
    while streams != (best.load.streams if best is not None else 0):
        result = measure(replace(first, streams=streams))
        if result.held:
            best = result
        else:
            above = streams
        low = best.load.streams if best is not None else 0
        streams = 2 * streams if not above else (low + above) // 2
        if above and above - low <= max(1, low // 16):
            break
    return best


async def _measure(url: str, load: Load, images: Sequence[bytes], key: str | None) -> ServeResult:
    tallies = await asyncio.gather(*(_run_client(url, load, number, images, key) for number in range(load.streams)))
    ages = [age for tally in tallies for age in tally.ages]
    deltas = [delta for tally in tallies for delta in tally.first_deltas]
    drops = [tally.dropped for tally in tallies]
    late = sum(dropped.get("late", 0) for dropped in drops)
    return ServeResult(
        load,
        frames=len(ages),
        late=late,
        other_drops=sum(sum(dropped.values()) for dropped in drops) - late,
        unaccounted=sum(tally.unaccounted for tally in tallies),
        age_p50=percentile(ages, 50),
        age_p99=percentile(ages, 99),
        replies=sum(tally.replies for tally in tallies),
        first_delta_p50=percentile(deltas, 50),
        first_delta_p99=percentile(deltas, 99),
    )


async def _run_client(url: str, load: Load, number: int, images: Sequence[bytes], key: str | None) -> ClientTally:
    """Run one stream. The starts of the streams are spread over the interval between frames, as those of cameras are."""
    tally = ClientTally()
    async with RemoteSession(url, key=key) as session:
        await session.update(duet={"fps": None})
        if load.query is not None:
            await session.ask(load.query)
        collecting = asyncio.create_task(
            _collect_events(session, tally, round(WARM_UP_SHARE * load.seconds * load.fps))
        )
        loop = asyncio.get_running_loop()
        start = loop.time() + number / load.streams / load.fps
        for sent in range(round(load.seconds * load.fps)):
            await asyncio.sleep(max(start + sent / load.fps - loop.time(), 0))
            await session.push(images[(number * 7 + sent) % len(images)], sent / load.fps)
        await session.end()
        await collecting
    return tally


async def _collect_events(session: RemoteSession, tally: ClientTally, skip: int) -> None:
    ended = 0
    async for event in session:
        match event:
            case server_events.FrameScored():
                ended += 1
                if event.seq >= skip:
                    tally.ages.append(event.age_ms)
            case server_events.FrameDropped():
                ended += 1
                if event.seq >= skip:
                    tally.dropped[event.reason] = tally.dropped.get(event.reason, 0) + 1
            case server_events.ResponseDone(response=response):
                tally.replies += 1
                if response.duet.timing is not None and response.duet.timing.first_delta_ms is not None:
                    tally.first_deltas.append(response.duet.timing.first_delta_ms)
            case server_events.SessionClosed(frames=frames):
                tally.unaccounted = frames.get("received", 0) - ended


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile of the values; NaN without any."""
    return float(np.percentile(values, percent)) if values else float("nan")
