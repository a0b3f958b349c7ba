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
from mmduet.engine.kv_cache import CacheShape, Slot

shape = CacheShape(4, 2, 48, 10000.0, torch.float32, torch.device("cpu"))
slots = [Slot(shape, 500) for _ in range(100)]
for slot in slots:
    slot.keys.fill_(1.0)
before = resident_mb()
del slot
slots = slots[::25]
print(before - resident_mb())
"""


def run(script: str) -> float:
    result = subprocess.run([sys.executable, "-c", HEAD + script], capture_output=True, text=True, check=True)
    return float(result.stdout)


@pytest.mark.skipif(not is_glibc(), reason="other C libraries do not keep free memory in pools")
def test_pages_between_those_in_use_are_returned() -> None:
    assert run(BLOCKS) > 150


def test_the_memory_of_a_slot_is_returned_when_it_is_freed() -> None:
    assert run(SLOTS) > 60


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
