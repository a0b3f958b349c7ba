"""Return memory of closed sessions to the operating system. glibc's allocator keeps it otherwise, in pools that only grow."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import sys
from collections.abc import Callable

M_ARENA_MAX = -8  # from malloc.h
MAX_ARENAS = 2
CHECK_SECONDS, CHECKS_PER_MINUTE = 2.0, 30


def limit_arenas() -> None:
    """Let all threads share two of glibc's pools (arenas): what is free in one is not used by the threads of another.

    Other settings that return memory at once, such as a low ``M_MMAP_THRESHOLD``, slow down every step.
    """
    if (glibc := _glibc()) is not None:
        glibc.mallopt(M_ARENA_MAX, MAX_ARENAS)


def return_free_memory() -> None:
    """Return free pages between those in use as well. Takes some milliseconds, without Python's global lock."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


async def return_memory_periodically(
    used_bytes: Callable[[], int], give_back: Callable[[], object] = return_free_memory, interval: float = CHECK_SECONDS
) -> None:
    """Return free pages after sessions have released memory, and every minute. Never ends.

    ``used_bytes`` returns what sessions have reserved. Other work, such as requests that are refused, leaves free pages, too.
    """
    most = 0
    for check in itertools.count(1):
        await asyncio.sleep(interval)
        used = used_bytes()
        if used < most or not check % CHECKS_PER_MINUTE:
            await asyncio.to_thread(give_back)
            most = 0
        most = max(most, used)


def is_glibc() -> bool:
    """Return whether this process uses the GNU C library."""
    return _glibc() is not None


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
