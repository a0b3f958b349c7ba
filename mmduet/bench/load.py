"""Measure the peak memory and the time of loading a model onto a device, in a separate process."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from mmduet.errors import EngineError

if TYPE_CHECKING:
    from mmduet.model.placement import Placement
    from mmduet.model.source import ModelSource

MAX_RATIO = 1.2  # of peak memory to weights


@dataclass(frozen=True)
class LoadCost:
    """Sizes in bytes, less what was in use before the first tensor was loaded.

    Attributes:
        weight_bytes: Size of the weights.
        peak_bytes: Maximum of the process's resident memory.
        seconds: Duration of loading.
        device: The device of the weights.
        device_peak_bytes: Maximum of the memory in use on the device; on the CPU that is ``peak_bytes``.
    """

    weight_bytes: int
    peak_bytes: int
    seconds: float
    device: str
    device_peak_bytes: int

    @property
    def ratio(self) -> float:
        """Peak memory on the device divided by the size of the weights."""
        return self.device_peak_bytes / self.weight_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "weight_bytes": self.weight_bytes,
            "peak_bytes": self.peak_bytes,
            "seconds": self.seconds,
            "device": self.device,
            "device_peak_bytes": self.device_peak_bytes,
            "ratio": self.ratio,
        }


def measure_load_cost(model: str | ModelSource, placement: Placement, pickles: bool = False) -> LoadCost:
    """Load ``model`` in a new process and return the cost.

    Raises:
        EngineError: the process was killed.
        MmduetError: the model cannot be loaded.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_load, model, placement, pickles).result()
        except BrokenProcessPool:
            raise EngineError(
                f"the process that loaded {model} in {placement.dtype} was killed, probably for lack of memory; "
                "try a smaller --dtype"
            ) from None


def _load(model: str | ModelSource, placement: Placement, pickles: bool) -> LoadCost:
    from mmduet.bench.device_memory import allocated_bytes, peak_device_memory
    from mmduet.bench.memory import peak_memory, resident_bytes
    from mmduet.model import load_model

    device = placement.device
    load_model("random:tiny", device=device)  # libraries allocate memory at their first use
    before, device_before = resident_bytes(), allocated_bytes(device)
    start = time.perf_counter()
    with peak_memory() as peak, peak_device_memory(device) as device_peak:
        loaded = load_model(model, placement.dtype, device, pickles=pickles)
    seconds = time.perf_counter() - start
    weights = sum(parameter.nbytes for parameter in loaded.network.parameters())
    return LoadCost(weights, peak[0] - before, seconds, str(device), device_peak[0] - device_before)
