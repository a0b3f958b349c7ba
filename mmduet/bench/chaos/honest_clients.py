"""Well-behaved clients, which stream one scene repeatedly and compare every score and reply with those of a client alone."""

from __future__ import annotations

import asyncio
from time import monotonic

from mmduet.bench.chaos.report import ChaosConfig, ChaosReport
from mmduet.client import RemoteSession
from mmduet.protocol import server_events

MAX_SCORE_CHANGE = 1e-3

ClientView = tuple[tuple[float, bool] | str, ...]


async def run_honest_client(url: str, config: ChaosConfig, alone: ClientView, result: ChaosReport, end: float) -> None:
    """Stream the scene repeatedly until the end and compare every iteration with ``alone``."""
    while monotonic() < end:
        try:
            view = await stream_once(url, config, result)
        except Exception as error:  # noqa: BLE001 - any error counts as the loss of an honest client
            result.losses.append(repr(error))
            return
        result.changed += not is_same_view(view, alone)


async def stream_once(url: str, config: ChaosConfig, result: ChaosReport) -> ClientView:
    """Stream the scene once; return the score and decision of each frame and the text of each reply, in order."""
    view: list[tuple[float, bool] | str] = []
    ended = 0
    async with RemoteSession(url, key=config.key, block_when_behind=True) as session:
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
