"""Stress a server with hostile clients and check that honest clients still get the same results and memory stays bounded.

Honest clients stream one scene over and over and compare every score and reply with those of a client that was alone.
Hostile clients act at random from a seed: they send garbage, never read, fall silent with an open socket, or disconnect early.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from mmduet.client import RemoteSession
from mmduet.client.address import websocket_url
from mmduet.errors import OptionError
from mmduet.protocol import server_events
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame

MAX_SCORE_CHANGE = 1e-3
MAX_GROWTH_MB = 32.0
WARM_UP_SHARE = 0.5
"""Share of a run after which memory growth counts. For about two minutes a server fills up with sessions that wait for lost
clients and with memory that the allocator keeps, so a run should be several times as long."""
MIB = 2**20

ClientView = tuple[tuple[float, bool] | str, ...]


@dataclass(frozen=True)
class ChaosConfig:
    """Number of honest and hostile clients, and what they send: ``images`` are encoded frames, sent at ``fps``."""

    honest: int
    hostile: int
    fps: float
    minutes: float
    images: Sequence[bytes]
    query: str
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ``OptionError`` without honest clients, duration or rate."""
        if self.honest < 1 or self.minutes <= 0 or self.fps <= 0:
            raise OptionError(
                f"honest clients, minutes and fps must be greater than 0, got {self.honest}, {self.minutes}, {self.fps}"
            )


@dataclass
class ChaosReport:
    """The outcome. ``changed`` counts iterations in which an honest client received other results than the client alone.

    ``unaccounted`` counts frames that were neither scored nor reported as dropped, ``losses`` are the errors that ended honest
    clients, ``attacks`` counts hostile connections by kind.
    """

    iterations: int = 0
    frames: int = 0
    changed: int = 0
    unaccounted: int = 0
    losses: list[str] = field(default_factory=list)
    attacks: dict[str, int] = field(default_factory=dict)
    memory_before_mb: float = 0.0
    memory_after_mb: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Descriptions of everything that is wrong; empty if the server passed."""
        growth = self.memory_after_mb - self.memory_before_mb
        wrong = {
            f"{self.changed} iterations had other results than the client alone": self.changed,
            f"{self.unaccounted} frames were not accounted for": self.unaccounted,
            f"honest clients were lost: {'; '.join(self.losses)}": self.losses,
            f"memory grew by {growth:.1f} MiB": growth > MAX_GROWTH_MB,
            "no iteration was completed": not self.iterations,
        }
        return [text for text, bad in wrong.items() if bad]

    def to_dict(self) -> dict[str, Any]:
        """Return the report under the names of its JSON file."""
        return {
            "laps": self.iterations,
            "frames": self.frames,
            "changed": self.changed,
            "unaccounted": self.unaccounted,
            "losses": list(self.losses),
            "villainy": dict(self.attacks),
            "memory_before_mb": self.memory_before_mb,
            "memory_after_mb": self.memory_after_mb,
            "faults": self.faults,
        }


async def run_chaos(url: str, pid: int, config: ChaosConfig, progress: Callable[[float], None]) -> ChaosReport:
    """Run all clients against the server at ``url``, whose process is ``pid``; ``progress`` receives the share that is done."""
    result, attacks = ChaosReport(), Counter[str]()
    alone = await _stream_once(url, config, result)
    result.iterations = result.frames = 0
    end = monotonic() + config.minutes * 60
    clients = [_run_honest_client(url, config, alone, result, end) for _ in range(config.honest)]
    clients += [
        _run_hostile_client(url, config, random.Random(config.seed * 1000 + n), attacks, end)
        for n in range(config.hostile)
    ]
    await asyncio.gather(*clients, _track_memory(pid, result, config.minutes * 60, progress))
    result.attacks = dict(sorted(attacks.items()))
    return result


async def _track_memory(pid: int, result: ChaosReport, seconds: float, progress: Callable[[float], None]) -> None:
    process, start = psutil.Process(pid), monotonic()
    while (done := (monotonic() - start) / seconds) < 1:
        size = process.memory_info().rss / MIB
        if done < WARM_UP_SHARE:
            result.memory_before_mb = size
        result.memory_after_mb = size
        progress(done)
        await asyncio.sleep(min(1.0, seconds / 20))


async def _run_honest_client(url: str, config: ChaosConfig, alone: ClientView, result: ChaosReport, end: float) -> None:
    while monotonic() < end:
        try:
            view = await _stream_once(url, config, result)
        except Exception as error:  # noqa: BLE001 - any error counts as the loss of an honest client
            result.losses.append(repr(error))
            return
        result.changed += not is_same_view(view, alone)


async def _stream_once(url: str, config: ChaosConfig, result: ChaosReport) -> ClientView:
    """Stream the scene once; return the score and decision of each frame and the text of each reply, in order."""
    view: list[tuple[float, bool] | str] = []
    ended = 0
    async with RemoteSession(url, block_when_behind=True) as session:
        await session.update(duet={"fps": None})
        await session.ask(config.query)
        sending = asyncio.create_task(_send_frames(session, config))
        async for event in session:
            match event:
                case server_events.FrameScored(informative=score):
                    ended += 1
                    view.append((score if score is not None else float("nan"), event.decision == "speak"))
                case server_events.FrameDropped():
                    ended += 1
                case server_events.TextDone(text=text):
                    view.append(text)
                case server_events.SessionClosed(frames=frames):
                    result.unaccounted += abs(frames.get("received", 0) - ended) + abs(len(config.images) - ended)
        await sending
    result.iterations += 1
    result.frames += ended
    return tuple(view)


async def _send_frames(session: RemoteSession, config: ChaosConfig) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number, image in enumerate(config.images):
        await asyncio.sleep(max(begin + number / config.fps - loop.time(), 0))
        await session.push(image, number / config.fps)
    await session.end()


def is_same_view(view: ClientView, alone: ClientView) -> bool:
    """Return whether two views are equal; scores may differ by rounding, as batches are composed differently."""
    if len(view) != len(alone):
        return False
    return all(
        one == other
        if isinstance(one, str) or isinstance(other, str)
        else one[1] == other[1] and abs(one[0] - other[0]) <= MAX_SCORE_CHANGE
        for one, other in zip(view, alone, strict=True)
    )


# hostile clients


async def _run_hostile_client(
    url: str, config: ChaosConfig, rng: random.Random, attacks: Counter[str], end: float
) -> None:
    """Open one hostile connection after another until the end. How the server reacts to them does not matter."""
    while monotonic() < end:
        name = rng.choice(sorted(HOSTILE_CLIENTS))
        attacks[name] += 1
        with contextlib.suppress(WebSocketException, OSError, TimeoutError):
            async with asyncio.timeout(max(end - monotonic(), 0.1)):
                ws = await connect(websocket_url(url), compression=None, max_size=None, close_timeout=1)
                try:
                    await HOSTILE_CLIENTS[name](ws, config, rng)
                finally:
                    ws.transport.abort()
        await asyncio.sleep(rng.uniform(0.0, 0.2))


async def _send_garbage(ws: ClientConnection, config: ChaosConfig, rng: random.Random) -> None:
    """Send invalid messages mixed with valid ones."""
    texts = [
        "{",
        "[" * 5000,
        json.dumps({"type": "session.update", "session": {"type": "realtime", "x": 1}}),
        '{"type": 1}',
        "\0",
    ]
    for number in range(rng.randrange(20, 200)):
        kind = rng.randrange(4)
        if kind == 0:
            await ws.send(rng.randbytes(rng.randrange(64)))
        elif kind == 1:
            await ws.send(pack_frame(number, number * 1000, EncodedImage(ImageFormat.JPEG, rng.randbytes(500))))
        elif kind == 2:
            await ws.send(rng.choice(texts))
        else:
            await ws.send(json.dumps({"type": "response.create"}))
        await asyncio.sleep(rng.uniform(0, 0.05))


async def _never_read(ws: ClientConnection, config: ChaosConfig, rng: random.Random) -> None:
    """Send frames without ever reading."""
    ws.transport.pause_reading()
    for number in range(rng.randrange(50, 500)):
        await ws.send(
            pack_frame(
                number, number * 250_000, EncodedImage(ImageFormat.JPEG, config.images[number % len(config.images)])
            )
        )
        await asyncio.sleep(rng.uniform(0, 0.02))


async def _fall_silent(ws: ClientConnection, config: ChaosConfig, rng: random.Random) -> None:
    """Send a few frames, then nothing, and keep the socket open."""
    for number in range(rng.randrange(5)):
        await ws.send(pack_frame(number, number * 250_000, EncodedImage(ImageFormat.JPEG, config.images[number])))
    ws.transport.pause_reading()
    await asyncio.sleep(rng.uniform(1, 30))


async def _disconnect_early(ws: ClientConnection, config: ChaosConfig, rng: random.Random) -> None:
    """Disconnect after a few frames, with or without a closing handshake."""
    for number in range(rng.randrange(3)):
        await ws.send(pack_frame(number, number * 250_000, EncodedImage(ImageFormat.JPEG, config.images[number])))
    if rng.random() < 0.5:
        await ws.close()


async def _flood_with_queries(ws: ClientConnection, config: ChaosConfig, rng: random.Random) -> None:
    """Send long queries without pause."""
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "What now? " * rng.randrange(1, 50)}],
    }
    for _ in range(rng.randrange(100, 1500)):
        await ws.send(json.dumps({"type": "conversation.item.create", "item": item}))


HOSTILE_CLIENTS: dict[str, Callable[[ClientConnection, ChaosConfig, random.Random], Awaitable[None]]] = {
    "garbage": _send_garbage,
    "deaf": _never_read,
    "silent": _fall_silent,
    "fickle": _disconnect_early,
    "hasty": _flood_with_queries,
}
