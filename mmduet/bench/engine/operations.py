"""Record the operations that PyTorch dispatches: how many, in which stage of a step, and how long they take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from time import perf_counter_ns
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode

from mmduet.bench.engine.stages import STAGES, current_stage

RANGE_PREFIX = "stage:"  # of the ranges in a profile
CALL_LEVELS = 2  # functions of this module between an operation and its caller
MOST_FREQUENT = 12  # operations that a report lists
CALIBRATION_CALLS = 1000
CALIBRATION_ROUNDS = 5  # the fastest one counts


class OperationRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of its base
    """Counts operations while it is active, and measures their time on the host, by stage and name.

    With ``ranges``, each operation is also a range ``stage:...`` for ``torch.profiler``, which knows the time on a device.
    """

    def __init__(self, ranges: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls, self.nanoseconds = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self._ranges = ranges

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Execute an operation and record it."""
        name = func.overloadpacket.__name__
        key = current_stage(name, CALL_LEVELS), name
        self.calls[key] += 1
        run = self._run_in_range if self._ranges else self._run_timed
        return run(key, lambda: func(*args, **(kwargs or {})))

    @property
    def total_calls(self) -> int:
        """Number of operations."""
        return sum(self.calls.values())

    @property
    def total_milliseconds(self) -> float:
        """Time of all operations on the host."""
        return sum(self.milliseconds_by_stage().values())

    def calls_by_stage(self) -> dict[str, int]:
        """Return the number of operations of each stage that has any."""
        return {stage: int(count) for stage, count in self._by_stage(self.calls).items()}

    def milliseconds_by_stage(self) -> dict[str, float]:
        """Return the time on the host of each stage that has operations, less what recording adds to it."""
        calls, overhead = self._by_stage(self.calls), recording_nanoseconds()
        nanoseconds = self._by_stage(self.nanoseconds)
        return {stage: max(nanoseconds[stage] - overhead * calls[stage], 0) / 1e6 for stage in nanoseconds}

    def count(self, names: re.Pattern[str], stage: str) -> int:
        """Return the number of operations of a stage whose names match."""
        return sum(count for (of, name), count in self.calls.items() if of == stage and names.search(name))

    def most_frequent(self) -> dict[str, int]:
        """Return the names and numbers of the most frequent operations."""
        names = Counter[str]()
        for (_, name), count in self.calls.items():
            names[name] += count
        return dict(names.most_common(MOST_FREQUENT))

    def _run_timed(self, key: tuple[str, str], operation: Callable[[], Any]) -> Any:
        begin = perf_counter_ns()
        result = operation()
        self.nanoseconds[key] += perf_counter_ns() - begin
        return result

    def _run_in_range(self, key: tuple[str, str], operation: Callable[[], Any]) -> Any:
        with record_function(RANGE_PREFIX + key[0]):
            return operation()

    def _by_stage(self, counts: Counter[tuple[str, str]]) -> dict[str, int]:
        sums = {stage: sum(count for (of, _), count in counts.items() if of == stage) for stage in STAGES}
        return {stage: count for stage, count in sums.items() if count}


@cache
def recording_nanoseconds() -> float:
    """Return by how much recording lengthens the measured time of an operation, from many calls of a very short one."""
    tensor = torch.zeros(1)
    plain, recorded = list[float](), list[float]()
    for _ in range(CALIBRATION_ROUNDS):
        begin = perf_counter_ns()
        _call_often(tensor)
        plain.append(perf_counter_ns() - begin)
        with OperationRecorder() as recorder:
            _call_often(tensor)
        recorded.append(sum(recorder.nanoseconds.values()))
    return max(min(recorded) - min(plain), 0) / CALIBRATION_CALLS


def _call_often(tensor: torch.Tensor) -> None:
    for _ in range(CALIBRATION_CALLS):
        tensor.detach()
