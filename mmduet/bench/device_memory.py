"""Measure the memory that PyTorch's tensors occupy on a device; on the CPU that is the resident memory of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmduet.bench.memory import peak_memory, resident_bytes


def allocated_bytes(device: torch.device) -> int:
    """Return the bytes of tensors on ``device`` at this moment."""
    match device.type:
        case "cuda":
            return torch.cuda.memory_allocated(device)
        case "mps":
            return torch.mps.current_allocated_memory()
        case _:
            return resident_bytes()


def peak_bytes(device: torch.device) -> int | None:
    """Return the largest number of bytes that tensors have occupied on a CUDA device; None for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


@contextmanager
def peak_device_memory(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak while the block runs; it is the only element of the list.

    PyTorch does not report the peak of MPS, so the larger one of the values before and after the block stands for it.
    """
    if device.type == "cpu":
        with peak_memory() as peak:
            yield peak
        return
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    peak = [allocated_bytes(device)]
    try:
        yield peak
    finally:
        peak[0] = max(peak_bytes(device) or 0, allocated_bytes(device))
