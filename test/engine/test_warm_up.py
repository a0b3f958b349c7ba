"""The warm-up of an engine: the steps that it measures, and what it leaves behind."""

from __future__ import annotations

import pytest
from duet_rig import lively_model

from mmduet.engine import Engine, recommended_options
from mmduet.engine.config import EngineConfig
from mmduet.engine.warm_up import BATCH_SIZES, warm_up


@pytest.mark.parametrize("fitting", [1, 3, 100])
def test_warm_up_measures_as_many_sessions_as_there_is_memory_for(fitting: int) -> None:
    model = lively_model()
    options = recommended_options(model.config.recommended)
    engine = Engine(model, EngineConfig(kv_bytes=fitting * Engine(model).slot_bytes(options)))
    counts = {count for seconds, count in warm_up(engine) if seconds > 0}
    assert counts <= {min(count, fitting) for count in BATCH_SIZES}
    assert 1 in counts
    assert engine.session_count == 0
    sessions = [engine.open(options) for _ in range(min(fitting, 3))]  # all memory is free again
    assert engine.session_count == len(sessions)
