"""Honest clients among villains, for as long as is asked: what the honest are told must not change, and memory must stay.

Honest clients stream one scene over and over and compare every score and word with what a client that was alone was told. The
villains are seeded: some send garbage, some never read, some fall silent with their socket open, some come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from mmduet.client import RemoteSession
from mmduet.client.session import endpoint
from mmduet.errors import OptionError
from mmduet.protocol import server_events as told
from mmduet.protocol.frames import Kind, Picture, pack

MOST_DRIFT = 1e-3  # of a score
MOST_GROWTH_MB = 32.0
SETTLING = 0.5
"""The part of a run after which memory is watched. A server fills up for two minutes or so: with sessions that wait for lost
clients, with what the allocator keeps; a run should be some times as long."""
MIB = 2**20

Told = tuple[tuple[float, bool] | str, ...]


@dataclass(frozen=True)
class Plot:
    """Who takes part, and with what: ``pictures`` are the scene's encoded frames, sent at ``fps``."""

    honest: int
    villains: int
    fps: float
    minutes: float
    pictures: Sequence[bytes]
    query: str
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what proves nothing."""
        if self.honest < 1 or self.minutes <= 0 or self.fps <= 0:
            raise OptionError(
                f"{self.honest} honest clients, {self.minutes} minutes, {self.fps} fps: use more than none"
            )


@dataclass
class Report:
    """What came of it. ``changed`` counts laps in which an honest client was told something else than the one alone."""

    laps: int = 0
    frames: int = 0
    changed: int = 0
    unaccounted: int = 0
    losses: list[str] = field(default_factory=list)  # why honest clients were lost
    villainy: dict[str, int] = field(default_factory=dict)
    memory_before_mb: float = 0.0
    memory_after_mb: float = 0.0

    @property
    def faults(self) -> list[str]:
        """What should not have happened."""
        growth = self.memory_after_mb - self.memory_before_mb
        wrong = {
            f"{self.changed} laps were told otherwise than alone": self.changed,
            f"{self.unaccounted} frames were not accounted for": self.unaccounted,
            f"honest clients were lost: {'; '.join(self.losses)}": self.losses,
            f"memory grew by {growth:.1f} MiB": growth > MOST_GROWTH_MB,
            "no lap was finished": not self.laps,
        }
        return [text for text, bad in wrong.items() if bad]

    def to_dict(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "faults": self.faults}


async def chaos(url: str, pid: int, plot: Plot, report: Callable[[float], None]) -> Report:
    """Run the plot against the server at ``url``, process ``pid``; ``report`` is told the part that is done."""
    result, villainy = Report(), Counter[str]()
    alone = await _lap(url, plot, result)
    result.laps = result.frames = 0
    end = monotonic() + plot.minutes * 60
    casts = [_honest(url, plot, alone, result, end) for _ in range(plot.honest)]
    casts += [_villain(url, plot, random.Random(plot.seed * 1000 + n), villainy, end) for n in range(plot.villains)]
    await asyncio.gather(*casts, _watch(pid, result, plot.minutes * 60, report))
    result.villainy = dict(sorted(villainy.items()))
    return result


async def _watch(pid: int, result: Report, seconds: float, report: Callable[[float], None]) -> None:
    process, began = psutil.Process(pid), monotonic()
    while (done := (monotonic() - began) / seconds) < 1:
        size = process.memory_info().rss / MIB
        if done < SETTLING:
            result.memory_before_mb = size
        result.memory_after_mb = size
        report(done)
        await asyncio.sleep(min(1.0, seconds / 20))


async def _honest(url: str, plot: Plot, alone: Told, result: Report, end: float) -> None:
    while monotonic() < end:
        try:
            heard = await _lap(url, plot, result)
        except Exception as error:  # noqa: BLE001 - whatever it is, an honest client was lost to it, and the report says so
            result.losses.append(repr(error))
            return
        result.changed += not same(heard, alone)


async def _lap(url: str, plot: Plot, result: Report) -> Told:
    """The scene once: each frame's score and decision, and each reply, in order."""
    heard: list[tuple[float, bool] | str] = []
    ended = 0
    async with RemoteSession(url, patient=True) as session:
        await session.update(duet={"fps": None})
        await session.ask(plot.query)
        sending = asyncio.create_task(_send(session, plot))
        async for event in session:
            match event:
                case told.FrameScored(informative=score):
                    ended += 1
                    heard.append((score if score is not None else float("nan"), event.decision == "speak"))
                case told.FrameDropped():
                    ended += 1
                case told.TextDone(text=text):
                    heard.append(text)
                case told.SessionClosed(frames=frames):
                    result.unaccounted += abs(frames.get("received", 0) - ended) + abs(len(plot.pictures) - ended)
        await sending
    result.laps += 1
    result.frames += ended
    return tuple(heard)


async def _send(session: RemoteSession, plot: Plot) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number, picture in enumerate(plot.pictures):
        await asyncio.sleep(max(begin + number / plot.fps - loop.time(), 0))
        await session.push(picture, number / plot.fps)
    await session.end()


def same(heard: Told, alone: Told) -> bool:
    """Whether two laps were told the same, scores up to the last bits that a batch may change."""
    if len(heard) != len(alone):
        return False
    return all(
        one == other
        if isinstance(one, str) or isinstance(other, str)
        else one[1] == other[1] and abs(one[0] - other[0]) <= MOST_DRIFT
        for one, other in zip(heard, alone, strict=True)
    )


# villains


async def _villain(url: str, plot: Plot, dice: random.Random, villainy: Counter[str], end: float) -> None:
    """One after another, until the end; what the server does to them is its business."""
    while monotonic() < end:
        name = dice.choice(sorted(VILLAINS))
        villainy[name] += 1
        with contextlib.suppress(WebSocketException, OSError, TimeoutError):
            async with asyncio.timeout(max(end - monotonic(), 0.1)):
                ws = await connect(endpoint(url), compression=None, max_size=None, close_timeout=1)
                try:
                    await VILLAINS[name](ws, plot, dice)
                finally:
                    ws.transport.abort()
        await asyncio.sleep(dice.uniform(0.0, 0.2))


async def _garbage(ws: ClientConnection, plot: Plot, dice: random.Random) -> None:
    """Messages that are none, among some that are."""
    texts = [
        "{",
        "[" * 5000,
        json.dumps({"type": "session.update", "session": {"type": "realtime", "x": 1}}),
        '{"type": 1}',
        "\0",
    ]
    for number in range(dice.randrange(20, 200)):
        kind = dice.randrange(4)
        if kind == 0:
            await ws.send(dice.randbytes(dice.randrange(64)))
        elif kind == 1:
            await ws.send(pack(number, number * 1000, Picture(Kind.JPEG, dice.randbytes(500))))
        elif kind == 2:
            await ws.send(dice.choice(texts))
        else:
            await ws.send(json.dumps({"type": "response.create"}))
        await asyncio.sleep(dice.uniform(0, 0.05))


async def _deaf(ws: ClientConnection, plot: Plot, dice: random.Random) -> None:
    """Sends and never reads."""
    ws.transport.pause_reading()
    for number in range(dice.randrange(50, 500)):
        await ws.send(pack(number, number * 250_000, Picture(Kind.JPEG, plot.pictures[number % len(plot.pictures)])))
        await asyncio.sleep(dice.uniform(0, 0.02))


async def _silent(ws: ClientConnection, plot: Plot, dice: random.Random) -> None:
    """A few frames, and then nothing, with the socket open."""
    for number in range(dice.randrange(5)):
        await ws.send(pack(number, number * 250_000, Picture(Kind.JPEG, plot.pictures[number])))
    ws.transport.pause_reading()
    await asyncio.sleep(dice.uniform(1, 30))


async def _fickle(ws: ClientConnection, plot: Plot, dice: random.Random) -> None:
    """Comes and goes, in the middle of whatever."""
    for number in range(dice.randrange(3)):
        await ws.send(pack(number, number * 250_000, Picture(Kind.JPEG, plot.pictures[number])))
    if dice.random() < 0.5:
        await ws.close()


async def _hasty(ws: ClientConnection, plot: Plot, dice: random.Random) -> None:
    """Questions and wishes without end."""
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "What now? " * dice.randrange(1, 50)}],
    }
    for _ in range(dice.randrange(100, 1500)):
        await ws.send(json.dumps({"type": "conversation.item.create", "item": item}))


VILLAINS: dict[str, Callable[[ClientConnection, Plot, random.Random], Awaitable[None]]] = {
    "garbage": _garbage,
    "deaf": _deaf,
    "silent": _silent,
    "fickle": _fickle,
    "hasty": _hasty,
}
