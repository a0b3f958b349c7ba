"""Hostile clients, which act at random from a seed: they send garbage, never read, fall silent, or disconnect early."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from mmduet.bench.chaos.report import ChaosConfig
from mmduet.client.address import websocket_url
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame


async def run_hostile_client(
    url: str, config: ChaosConfig, rng: random.Random, attacks: Counter[str], end: float
) -> None:
    """Open one hostile connection after another until the end. How the server reacts to them does not matter."""
    headers = {} if config.hostile_key is None else {"Authorization": f"Bearer {config.hostile_key}"}
    while monotonic() < end:
        name = rng.choice(sorted(HOSTILE_CLIENTS))
        attacks[name] += 1
        try:
            async with asyncio.timeout(max(end - monotonic(), 0.1)):
                ws = await connect(
                    websocket_url(url), additional_headers=headers, compression=None, max_size=None, close_timeout=1
                )
                try:
                    await HOSTILE_CLIENTS[name](ws, config, rng)
                finally:
                    ws.transport.abort()
        except InvalidStatus:
            attacks["rejected"] += 1
        except (WebSocketException, OSError, TimeoutError):
            pass  # the server has ended the connection
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
