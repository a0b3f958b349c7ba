"""Runs a model once, so that the first session does not wait for libraries and kernels that are loaded on first use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmduet.engine.defaults import recommended_options
from mmduet.engine.engine import Engine
from mmduet.events import Frame, Query


def warm_up(engine: Engine) -> None:
    """Score a black frame and generate a short reply in a session of its own. No other thread may use the engine."""
    recommended, size = engine.model.config.recommended, engine.model.config.vision.image_size
    options = recommended_options(recommended)
    session = engine.open(replace(options, window=1, decode=replace(options.decode, max_new_tokens=2)))
    engine.push(session, Query(recommended.query or "Narrate.", 0.0))
    engine.push(session, Frame(0, 0.0, np.zeros((size, size, 3), np.uint8)))
    engine.speak_now(session)
    for _ in engine.run(session):
        pass
    engine.close(session)
