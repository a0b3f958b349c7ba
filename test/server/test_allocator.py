"""Memory that is free returns to the operating system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from mmduet.server.allocator import is_glibc, return_memory_periodically

HEAD = """
import psutil

def resident_mb():
    return psutil.Process().memory_info().rss / 2**20
"""
BLOCKS = """
from mmduet.server.allocator import limit_arenas, return_free_memory

limit_arenas()
blocks = [bytearray(b"x" * 60_000) for _ in range(4000)]
blocks = blocks[::50]  # those that remain keep the pool from shrinking
before = resident_mb()
return_free_memory()
print(before - resident_mb())
"""
SLOTS = """
import torch
from mmduet.engine.kv_pool import CacheShape, KVPool

pool = KVPool(CacheShape(4, 2, 48, 10000.0, torch.float32, torch.device("cpu")), 1 << 22, 0)
slots = [pool.open(500, 0) for _ in range(100)]
empty = resident_mb()
for slot in slots:
    pool.storage[:, slot.base : slot.base + 500] = 1.0
before = resident_mb()
for number, slot in enumerate(slots):
    if number % 25:
        pool.close(slot)
print(empty, before - resident_mb())
"""


def run(script: str) -> list[float]:
    result = subprocess.run([sys.executable, "-c", HEAD + script], capture_output=True, text=True, check=True)
    return [float(value) for value in result.stdout.split()]


@pytest.mark.skipif(not is_glibc(), reason="other C libraries do not keep free memory in pools")
def test_pages_between_those_in_use_are_returned() -> None:
    assert run(BLOCKS)[0] > 150


def test_only_slots_that_are_open_and_written_take_memory() -> None:
    """The pool has 12 GiB, and the slots are written with 146 MiB."""
    empty, returned = run(SLOTS)
    assert empty < 1000
    assert returned > 130


def test_memory_is_returned_once_after_sessions_have_closed() -> None:
    used, returned = iter([10, 10, 4, 4, 8, 0]), []

    def used_bytes() -> int:
        try:
            return next(used)
        except StopIteration:
            raise EOFError from None

    with pytest.raises(EOFError):
        asyncio.run(return_memory_periodically(used_bytes, lambda: returned.append(len(returned)), interval=0.001))
    assert len(returned) == 2
