"""How much memory this process holds; knows the operating system, nothing else."""

from __future__ import annotations

import psutil


def resident_bytes() -> int:
    """Bytes of this process that are in physical memory now."""
    return int(psutil.Process().memory_info().rss)
