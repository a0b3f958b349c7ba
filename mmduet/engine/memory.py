"""Memory that this process can still use, on the host and on devices. Limits of containers (cgroups) count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from mmduet.engine.cgroups import ROOT, ControlGroup, control_groups, read_text
from mmduet.errors import CapacityError

ASSUMED_AVAILABLE_SHARE = 0.5
"""Share of the memory that is assumed to be available on systems that do not report it, such as macOS."""
V1_FILES = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
V2_FILES = (("memory.max", "memory.high"), "memory.current", "inactive_file")
"""Files of a control group: its limits, its usage, and the entry of ``memory.stat`` that can be reclaimed."""


@dataclass(frozen=True)
class HostMemory:
    """Memory in bytes: what this process may use at most, and what is available to it now."""

    total: int
    available: int


def host_memory(root: Path = ROOT) -> HostMemory:
    """Return the host memory of this process: that of the machine, or less if a control group limits it.

    ``root`` is the directory that holds ``proc`` and ``sys``.

    Raises:
        CapacityError: the operating system does not report its memory.
    """
    machine = _proc_memory(root) or _sysconf_memory()
    limits = [limit for group in control_groups("memory", root) if (limit := _group_memory(group)) is not None]
    levels = [machine, *limits]
    return HostMemory(min(level.total for level in levels), min(level.available for level in levels))


def free_bytes(device: torch.device) -> int:
    """Return the memory in bytes that this process can still allocate on ``device``.

    For CUDA this includes blocks that PyTorch's allocator holds without using them. On Apple GPUs (``mps``), which share the
    memory of the host, it is the smaller of what Metal recommends and what the host has available.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    available = host_memory().available
    if device.type == "mps":
        return min(available, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return available


def _proc_memory(root: Path) -> HostMemory | None:
    """Return the memory of a Linux machine; None on other systems."""
    fields = _read_table(read_text(root / "proc/meminfo"))
    if "MemTotal" not in fields or "MemAvailable" not in fields:
        return None
    return HostMemory(fields["MemTotal"] * 1024, fields["MemAvailable"] * 1024)


def _sysconf_memory() -> HostMemory:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        total = 0
    if total <= 0:
        raise CapacityError(
            "the operating system does not report its memory; set the memory of sessions (kv_memory_mb of a server, "
            "EngineConfig.kv_bytes)"
        )
    return HostMemory(total, int(total * ASSUMED_AVAILABLE_SHARE))


def _group_memory(group: ControlGroup) -> HostMemory | None:
    """Return the limit of a control group and what is left of it; None without a limit.

    Pages of files that have not been used recently are reclaimed before an allocation fails, so they count as available.
    """
    limits, usage, reclaimable = V2_FILES if group.version == 2 else V1_FILES
    limit = min((value for name in limits if (value := group.read_int(name)) is not None), default=None)
    if limit is None:
        return None
    used = (group.read_int(usage) or 0) - _read_table(group.read("memory.stat")).get(reclaimable, 0)
    return HostMemory(limit, max(limit - max(used, 0), 0))


def _read_table(text: str | None) -> dict[str, int]:
    """Parse lines such as ``MemTotal:  1024 kB`` or ``inactive_file 4096``; others are ignored."""
    rows = [line.replace(":", " ").split() for line in (text or "").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
