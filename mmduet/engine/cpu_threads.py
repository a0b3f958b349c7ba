"""How many CPU threads a step uses."""

from __future__ import annotations

import os

import torch
from torch import nn

MIN_STEP_PARAMETERS = 50_000_000
"""Parameters times streams of a step from which on more than one thread is faster; below, waiting for each other costs more."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def recommended_threads(parameters: int, streams: int | None, cores: int) -> int:
    """Return the number of threads for steps of up to ``streams`` streams (None: any number) with ``cores`` CPU cores."""
    return cores if streams is None or parameters * streams >= MIN_STEP_PARAMETERS else 1


def use_threads(count: int) -> None:
    """Let PyTorch use ``count`` CPU threads."""
    torch.set_num_threads(count)


def set_threads(network: nn.Module, streams: int | None, requested: int | None = None) -> None:
    """Set PyTorch's number of threads: ``requested``, else that of ``OMP_NUM_THREADS``, else the recommended one."""
    if requested is None and "OMP_NUM_THREADS" in os.environ:
        return
    parameters = sum(parameter.numel() for parameter in network.parameters())
    use_threads(requested or recommended_threads(parameters, streams, available_cores()))
