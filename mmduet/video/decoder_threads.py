"""How many threads decode one video."""

from __future__ import annotations

import os

from mmduet.errors import OptionError

DEFAULT_THREADS = 1
"""Threads share the slices of a frame, of which most files have one, and FFmpeg then notices less damage in H.264."""


def decoder_threads(requested: int | None = None) -> int:
    """Return the number of threads of a decoder: ``requested``, or the default, but at most the CPU cores of this process.

    Raises OptionError for a number below 1.
    """
    if requested is not None and requested < 1:
        raise OptionError(f"decoder threads must be at least 1, or None for the default, got {requested}")
    return min(requested or DEFAULT_THREADS, _available_cores())


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
