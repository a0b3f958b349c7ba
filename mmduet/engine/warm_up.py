"""The first steps of an engine: they run code for the first time, and show what steps cost before there is a client."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from mmduet.engine.defaults import recommended_options
from mmduet.engine.engine import Engine
from mmduet.events import Frame, Scores

BATCH_SIZES = (1, 8)
ROUNDS = 9
"""Steps for each size. The first one is not reported: it also reads the system turns, and may compile code."""
MAX_SECONDS = 1.0


def warm_up(engine: Engine) -> list[tuple[float, int]]:
    """Score grey frames in sessions that are closed again, and return the duration in seconds and the frames of each step.

    No step begins later than ``MAX_SECONDS`` after the first one. The engine must have no other sessions.
    """
    began, steps = perf_counter(), list[tuple[float, int]]()
    size = engine.model.config.vision.image_size
    image = np.full((size, size, 3), 128, np.uint8)
    for count in BATCH_SIZES:
        sessions = [engine.open(recommended_options(engine.model.config.recommended)) for _ in range(count)]
        try:
            for index in range(ROUNDS):
                if perf_counter() - began > MAX_SECONDS:
                    break
                for session in sessions:
                    engine.push(session, Frame(index, float(index), image))
                seconds = _score(engine, count)
                if index > 0:
                    steps.append((seconds, count))
        finally:
            for session in sessions:
                engine.close(session)
    return steps


def _score(engine: Engine, count: int) -> float:
    """Step until ``count`` frames have been scored; return the seconds that it took."""
    began = perf_counter()
    while count > 0 and engine.busy:
        count -= sum(isinstance(output, Scores) for _, output in engine.step())
    return perf_counter() - began
