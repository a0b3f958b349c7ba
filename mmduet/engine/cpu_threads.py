"""How many CPU threads a step uses."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from mmduet.engine.cgroups import ROOT, ControlGroup, control_groups

MIN_STEP_PARAMETERS = 50_000_000
"""Parameters times streams of a step from which on more than one thread is faster; below, waiting for each other costs more."""


def available_cores(root: Path = ROOT) -> int:
    """Return the number of CPU cores that this process may use: its CPU affinity and the CPU quota of its container count.

    A fraction of a core is not counted: a thread more than the quota allows is stopped, and the others wait for it.
    ``root`` is the directory that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(min(cores, int(quota)), 1)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the smallest CPU quota of the control groups of this process, in cores; None without a quota."""
    quotas = [quota for group in control_groups("cpu", root) if (quota := _group_quota(group)) is not None]
    return min(quotas, default=None)


def _group_quota(group: ControlGroup) -> float | None:
    if group.version == 2:
        fields = (group.read("cpu.max") or "max").split()  # "150000 100000", or "max 100000" without a quota
        return int(fields[0]) / int(fields[1]) if len(fields) == 2 and fields[0].isdigit() else None
    quota, period = group.read_int("cpu.cfs_quota_us"), group.read_int("cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None  # -1: no quota


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
