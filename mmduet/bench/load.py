"""Measure the peak memory and the time of loading a model, in a separate process."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from mmduet.errors import EngineError

if TYPE_CHECKING:
    from mmduet.model.source import ModelSource

MAX_RATIO = 1.2  # of peak memory to weights


@dataclass(frozen=True)
class LoadCost:
    """Sizes in bytes; ``peak_bytes`` is the maximum of resident memory, less that before the first tensor was loaded."""

    weight_bytes: int
    peak_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Peak memory divided by the size of the weights."""
        return self.peak_bytes / self.weight_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "weight_bytes": self.weight_bytes,
            "peak_bytes": self.peak_bytes,
            "seconds": self.seconds,
            "ratio": self.ratio,
        }


def measure_load_cost(model: str | ModelSource, dtype: str, pickles: bool = False) -> LoadCost:
    """Load ``model`` in a new process and return the cost.

    Raises:
        EngineError: the process was killed.
        MmduetError: the model cannot be loaded.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_load, model, dtype, pickles).result()
        except BrokenProcessPool:
            raise EngineError(
                f"the process that loaded {model} in {dtype} was killed, probably for lack of memory; try a smaller --dtype"
            ) from None


def _load(model: str | ModelSource, dtype: str, pickles: bool) -> LoadCost:
    import torch

    from mmduet.bench.memory import peak_memory, resident_bytes
    from mmduet.model import load_model

    load_model("random:tiny")  # libraries allocate memory at their first use
    before = resident_bytes()
    start = time.perf_counter()
    with peak_memory() as peak:
        loaded = load_model(model, getattr(torch, dtype), pickles=pickles)
    seconds = time.perf_counter() - start
    weights = sum(parameter.nbytes for parameter in loaded.network.parameters())
    return LoadCost(weights, peak[0] - before, seconds)
