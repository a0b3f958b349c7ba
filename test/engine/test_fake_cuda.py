"""Everything follows the device of the model: steps and training forwards on a CUDA device that only checks devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duet_rig import frames, options
from fake_cuda import DEVICE, fake_cuda, fake_model

from mmduet.annotations.training_samples import Sample
from mmduet.engine import Engine
from mmduet.engine.config import AttentionName, EngineConfig
from mmduet.events import Context, Query, ReplyStarted, Scores
from mmduet.model import LoadedModel
from mmduet.model.presets import SHAPES, byte_tokenizer
from mmduet.spans import AnnotatedReply
from mmduet.training.collate import collate
from mmduet.training.losses import forward_hidden
from mmduet.training.sequence import build_sequence

MAX_OUTPUTS = 100  # more than three short streams have
KV_BYTES = 1 << 28
TINY = SHAPES["tiny"]


def test_an_operation_on_two_devices_is_an_error() -> None:
    with fake_cuda() as device:
        here, there = torch.zeros(3), torch.zeros(3, device=device)
        assert (there + there)[1:].device == device
        with pytest.raises(RuntimeError, match="same device"):
            _ = here + there


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("attention", ["loop", "padded"])
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_steps_with_evictions_and_replies_stay_on_the_device(attention: AttentionName, family: str) -> None:
    config = replace(TINY, text=replace(TINY.text, family=family))  # type: ignore[arg-type]
    with fake_cuda():
        loaded = LoadedModel(fake_model(config), byte_tokenizer())
        engine = Engine(loaded, EngineConfig(device="auto", attention=attention, kv_bytes=KV_BYTES))
        outputs = []
        sessions = [engine.open(options(window=2, tokens=3, keep=keep)) for keep in (True, False, False)]
        for session in sessions:
            engine.push(session, Context("A line."))
            engine.push(session, Query("What?"))
            for frame in frames(4):
                engine.push(session, frame)
            engine.speak_now(session)
        while engine.busy and len(outputs) < MAX_OUTPUTS:
            outputs += [output for _, output in engine.step()]
    assert not engine.busy
    assert sum(isinstance(output, Scores) for output in outputs) == 12
    assert sum(isinstance(output, ReplyStarted) for output in outputs) == 3


def test_a_training_forward_stays_on_the_device() -> None:
    sample = Sample("captioning", "v", (Query("Go."),), (AnnotatedReply(1.5, "red enters", (1.0, 2.0)),))
    times = [i / 2 for i in range(5)]
    sequence = build_sequence(sample, times, byte_tokenizer(), 4, keep_replies=False, rng=np.random.default_rng(0))
    batch = collate([sequence], [torch.zeros(5, 28, 28, 3, dtype=torch.uint8)])
    with fake_cuda() as device:
        hidden = forward_hidden(fake_model(TINY), batch.to(device))
        assert (hidden.device, hidden.shape[2]) == (DEVICE, 48)
