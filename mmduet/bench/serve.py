"""How many live streams a server holds: clients at a fixed rate, the age of every frame, what was dropped on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmduet.client import RemoteSession
from mmduet.errors import OptionError
from mmduet.protocol import server_events as told

WARM_UP_SHARE = 0.2
"""The part of a run, from its beginning, that is not counted: sessions open one after another."""


@dataclass(frozen=True)
class Load:
    """``streams`` clients send ``fps`` frames a second for ``seconds``, each asks ``query`` once; all live, none waits."""

    streams: int
    fps: float
    seconds: float
    query: str | None

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        if not (self.streams >= 1 and self.fps > 0 and self.seconds >= 2):
            raise OptionError(
                f"{self.streams} streams, {self.fps} fps, {self.seconds} s: use 1 stream or more, fps above 0, 2 s or more"
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
    """The whole run. Times in milliseconds; ``late`` counts frames that had to give way."""

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
        """Whether 99 of 100 frames were scored within a frame's time, none gave way and none was lost."""
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
    """Run the load; ``pictures`` are encoded frames that recur. Raises as the client does."""
    return asyncio.run(_measure(url, load, images, key))


def find_max_streams(
    url: str, load: Load, images: Sequence[bytes], key: str | None, report: Callable[[ServeResult], None]
) -> ServeResult | None:
    """The largest load that is held: doubled until it is not, then halved between; None where not even one stream is."""
    best: ServeResult | None = None
    streams, above = load.streams, 0
    while streams != (best.load.streams if best is not None else 0):
        result = measure_load(url, Load(streams, load.fps, load.seconds, load.query), images, key)
        report(result)
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
    heard = await asyncio.gather(*(_run_client(url, load, number, images, key) for number in range(load.streams)))
    ages = [age for one in heard for age in one.ages]
    deltas = [delta for one in heard for delta in one.first_deltas]
    drops = [one.dropped for one in heard]
    late = sum(one.get("late", 0) for one in drops)
    return ServeResult(
        load,
        frames=len(ages),
        late=late,
        other_drops=sum(sum(one.values()) for one in drops) - late,
        unaccounted=sum(one.unaccounted for one in heard),
        age_p50=_percentile(ages, 50),
        age_p99=_percentile(ages, 99),
        replies=sum(one.replies for one in heard),
        first_delta_p50=_percentile(deltas, 50),
        first_delta_p99=_percentile(deltas, 99),
    )


async def _run_client(url: str, load: Load, number: int, pictures: Sequence[bytes], key: str | None) -> ClientTally:
    """One stream; streams begin spread over a frame's time, as cameras do."""
    heard, sent = ClientTally(), 0
    async with RemoteSession(url, key=key) as session:
        await session.update(duet={"fps": None})
        if load.query is not None:
            await session.ask(load.query)
        listening = asyncio.create_task(_collect_events(session, heard, round(WARM_UP_SHARE * load.seconds * load.fps)))
        loop = asyncio.get_running_loop()
        begin = loop.time() + number / load.streams / load.fps
        for sent in range(round(load.seconds * load.fps)):
            await asyncio.sleep(max(begin + sent / load.fps - loop.time(), 0))
            await session.push(pictures[(number * 7 + sent) % len(pictures)], sent / load.fps)
        await session.end()
        await listening
    return heard


async def _collect_events(session: RemoteSession, heard: ClientTally, skip: int) -> None:
    ended = 0
    async for event in session:
        match event:
            case told.FrameScored():
                ended += 1
                if event.seq >= skip:
                    heard.ages.append(event.age_ms)
            case told.FrameDropped():
                ended += 1
                if event.seq >= skip:
                    heard.dropped[event.reason] = heard.dropped.get(event.reason, 0) + 1
            case told.ResponseDone(response=response):
                heard.replies += 1
                if response.duet.timing is not None and response.duet.timing.first_delta_ms is not None:
                    heard.first_deltas.append(response.duet.timing.first_delta_ms)
            case told.SessionClosed(frames=frames):
                heard.unaccounted = frames.get("received", 0) - ended


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")
