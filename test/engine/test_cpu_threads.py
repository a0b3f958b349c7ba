"""The number of CPU threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mmduet.engine.cpu_threads import available_cores, recommended_threads, set_threads


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("parameters", "streams", "threads"),
    [(2_800_000, 1, 1), (2_800_000, 8, 1), (500_000_000, 1, 16), (2_800_000, 64, 16), (2_800_000, None, 16)],
)
def test_little_work_per_step_uses_one_thread(parameters: int, streams: int | None, threads: int) -> None:
    assert recommended_threads(parameters, streams, 16) == threads


def test_the_requested_number_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(10, 10)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    set_threads(network, None)
    assert torch.get_num_threads() == 2
    set_threads(network, 1, requested=3)
    assert torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    set_threads(network, 1)
    assert torch.get_num_threads() == 1
    set_threads(network, None)
    assert torch.get_num_threads() == available_cores()
