"""Memory that this process occupies on a device, without psutil."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch


def allocated_bytes(device: torch.device) -> int | None:
    """Return the memory in use: of the device, or resident memory of the process for the CPU. None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: torch.device) -> int | None:
    """Return the largest memory in use so far on a CUDA device. None for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
