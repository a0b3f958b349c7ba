"""Measure what a server adds: the round trip of a frame, less the engine's step for the same frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmduet.client import RemoteSession
from mmduet.engine import Engine, recommended_options
from mmduet.events import Frame, Query, Scores
from mmduet.options import SpeakOptions
from mmduet.protocol import server_events
from mmduet.video.image import decode_image

WARM_UP_FRAMES = 20  # frames until the window is full and all code has run once


@dataclass(frozen=True)
class Overhead:
    """Times in milliseconds. A round trip includes decoding, letterbox, two threads, two sockets and JSON beside the step."""

    frames: int
    round_trip_p50: float
    round_trip_p99: float
    step_p50: float
    step_p99: float
    overhead_p50: float
    overhead_p99: float

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "frames": self.frames,
            "round_trip_p50": self.round_trip_p50,
            "round_trip_p99": self.round_trip_p99,
            "step_p50": self.step_p50,
            "step_p99": self.step_p99,
            "overhead_p50": self.overhead_p50,
            "overhead_p99": self.overhead_p99,
        }


def measure_overhead(url: str, engine: Engine, images: Sequence[bytes], query: str, key: str | None = None) -> Overhead:
    """Send ``images`` one by one, each after the previous one has been scored, then do the same without a server.

    ``engine`` has the same model as the server. The server is idle while the engine runs; neither generates replies.
    """
    trips = np.array(asyncio.run(_round_trips(url, images, query, key)))[WARM_UP_FRAMES:]
    steps = np.array(_step_times(engine, images, query))[WARM_UP_FRAMES:]
    overheads = trips - steps
    figures = [float(np.percentile(values, percent)) for values in (trips, steps, overheads) for percent in (50, 99)]
    return Overhead(len(trips), *figures)


async def _round_trips(url: str, images: Sequence[bytes], query: str, key: str | None) -> list[float]:
    trips = []
    async with RemoteSession(url, key=key) as session:
        await session.update(duet={"fps": None, "speak": {"policy": "never"}})
        await session.ask(query)
        events = aiter(session)
        for index, image in enumerate(images):
            start = time.perf_counter()
            await session.push(image, index / 2)
            while not isinstance(await anext(events), server_events.FrameScored):
                pass
            trips.append(1000 * (time.perf_counter() - start))
    return trips


def _step_times(engine: Engine, images: Sequence[bytes], query: str) -> list[float]:
    options = recommended_options(engine.model.config.recommended)
    session = engine.open(replace(options, speak=SpeakOptions("never", 0.0)))
    engine.push(session, Query(query))
    steps = []
    for index, data in enumerate(images):
        engine.push(session, engine.prepare(Frame(index, index / 2, decode_image(data))))
        start = time.perf_counter()
        while not any(isinstance(output, Scores) for _, output in engine.step()):
            pass
        steps.append(1000 * (time.perf_counter() - start))
    return steps
