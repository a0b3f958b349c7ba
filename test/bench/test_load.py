"""``mmduet bench load`` with a checkpoint so large that its weights dominate the memory of loading."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import in_process

from mmduet.bench.load import LoadCost
from mmduet.bench.memory import peak_memory, resident_bytes
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model


@pytest.mark.slow
def test_loading_needs_little_more_memory_than_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint has 64 MB in many tensors, none of which is a large part of it."""
    shape = SHAPES["tiny"]
    text = replace(shape.text, hidden_size=512, intermediate_size=2048, layers=4, heads=8, head_dim=64)
    network = random_model(replace(shape, text=text))
    path = save_checkpoint(tmp_path / "model", network, byte_tokenizer())
    done = in_process(monkeypatch, capsys, "bench", "load", path)()
    found = re.search(
        r"(\d+) MiB of weights in float32 on cpu, at most (\d+) MiB while loading: ([\d.]+) times", done.out
    )
    assert found, done
    assert int(found[1]) == sum(p.nbytes for p in network.parameters()) // 2**20 > 50
    assert 0.9 < float(found[3]) < 1.2
    assert done.status == 0


def test_a_peak_is_measured_even_if_the_memory_is_freed() -> None:
    before = resident_bytes()
    with peak_memory() as peak:
        block = np.ones(2**25)  # 256 MiB
        del block
    assert peak[0] - before > 0.9 * 2**28


def test_a_cost_keeps_the_names_of_its_file() -> None:
    assert LoadCost(100, 150, 1.0, "cuda:0", 130).to_dict() == {
        "weight_bytes": 100,
        "peak_bytes": 150,
        "seconds": 1.0,
        "device": "cuda:0",
        "device_peak_bytes": 130,
        "ratio": pytest.approx(1.3),
    }
