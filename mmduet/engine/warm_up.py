"""The first steps of an engine: they load what is loaded on first use, and show what steps cost before there is a client."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from time import perf_counter

import numpy as np

from mmduet.engine.defaults import recommended_options
from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.errors import CapacityError
from mmduet.events import Frame, Query, Scores

BATCH_SIZES = (1, 8)
ROUNDS = 9
"""Steps for each size. The first one is not reported: it also reads the system turns, and may compile code."""
MAX_SECONDS = 1.0


def warm_up(engine: Engine) -> list[tuple[float, int]]:
    """Generate a short reply and score frames; return the duration in seconds and the frames of each step that was measured.

    This takes about ``MAX_SECONDS`` and the time of the reply, and on CUDA that of capturing graphs. The engine must have no
    other sessions.
    """
    engine.capture_graphs(recommended_options(engine.model.config.recommended))
    _generate_reply(engine)
    began, steps = perf_counter(), list[tuple[float, int]]()
    for count in BATCH_SIZES:
        steps += _score_rounds(engine, count, began + MAX_SECONDS)
    return steps


def _generate_reply(engine: Engine) -> None:
    """Score a frame and generate a short reply in a session of its own."""
    recommended = engine.model.config.recommended
    options = recommended_options(recommended)
    session = engine.open(replace(options, window=1, decode=replace(options.decode, max_new_tokens=2)))
    try:
        engine.push(session, Query(recommended.query or "Narrate.", 0.0))
        engine.push(session, _grey_frame(engine, 0))
        engine.speak_now(session)
        for _ in engine.run(session):
            pass
    finally:
        engine.close(session)


def _score_rounds(engine: Engine, count: int, end: float) -> list[tuple[float, int]]:
    """Score frames of at most ``count`` sessions, beginning no step after ``end``.

    Return the seconds and the number of frames of all rounds but the first.
    """
    sessions = _open_sessions(engine, count)
    rounds = list[tuple[float, int]]()
    try:
        for index in range(ROUNDS):
            if perf_counter() > end:
                break
            for session in sessions:
                engine.push(session, _grey_frame(engine, index))
            rounds.append((_score(engine, len(sessions)), len(sessions)))
    finally:
        for session in sessions:
            engine.close(session)
    return rounds[1:]


def _open_sessions(engine: Engine, count: int) -> list[Session]:
    """Open ``count`` sessions, or as many as there is memory for."""
    options, sessions = recommended_options(engine.model.config.recommended), list[Session]()
    with suppress(CapacityError):
        while len(sessions) < count:
            sessions.append(engine.open(options))
    return sessions


def _grey_frame(engine: Engine, index: int) -> Frame:
    size = engine.model.config.vision.image_size
    return Frame(index, float(index), np.full((size, size, 3), 128, np.uint8))


def _score(engine: Engine, count: int) -> float:
    """Step until ``count`` frames have been scored; return the seconds that it took."""
    began = perf_counter()
    while count > 0 and engine.busy:
        count -= sum(isinstance(output, Scores) for _, output in engine.step())
    return perf_counter() - began
