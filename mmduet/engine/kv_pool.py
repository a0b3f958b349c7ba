"""Keys and values of all sessions in one preallocated tensor, of which each session has a contiguous range, its slot.

The tensor is allocated once. On a CPU under Linux it is mapped memory: pages that no session has written take no memory, and
the pages of a closed slot return to the operating system. On a GPU it is reserved at the start, so that no step runs out of it.

With ``fp8``, keys and values are stored in 8-bit floating point (E4M3, 3 bits of mantissa) and converted to the model's type
when they are read. They have no scale: the rounding is relative, and keys and values are far smaller than the limit of 448.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmduet.engine.host_copy import to_device
from mmduet.engine.range_allocator import RangeAllocator
from mmduet.engine.relocation import Relocation, plan_relocation
from mmduet.engine.slot import Slot
from mmduet.errors import CapacityError
from mmduet.model.fp8 import FP8, FP8_MAX

MAP_NORESERVE = 0x4000  # of Linux; Python 3.11 does not name it. Pages are accounted for when they are written.
MAX_MOVED_TOKENS = 16_384
"""Tokens that are moved at once; a token of a 7B model takes 0.4 MB of temporary memory."""
SLOT_UNIT = 16
"""Slots begin at multiples of this many tokens."""


@dataclass(frozen=True)
class CacheShape:
    """Shape, type and device of the keys and values of one token."""

    layers: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    dtype: torch.dtype  # of the model
    device: torch.device
    fp8: bool = False

    @property
    def stored_dtype(self) -> torch.dtype:
        """The number type in which keys and values are stored."""
        return FP8 if self.fp8 else self.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of a token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.stored_dtype.itemsize

    @property
    def pin_bytes(self) -> int:
        """Bytes of the unrotated float32 key of a pinned token."""
        return 4 * self.layers * self.kv_heads * self.head_dim


class KVPool:
    """Storage for ``tokens`` tokens and the unrotated keys of ``pins`` pinned ones; open slots take at most ``max_bytes``."""

    def __init__(self, shape: CacheShape, tokens: int, pins: int, max_bytes: int | None = None) -> None:
        self.shape, self.max_bytes = shape, max_bytes
        self._slots, self._pins = RangeAllocator(tokens, SLOT_UNIT), RangeAllocator(pins, SLOT_UNIT)
        width = (shape.kv_heads, shape.head_dim)
        self._memory = [
            _Memory((shape.layers, self._slots.total, 2, *width), shape.stored_dtype, shape.device),
            _Memory((shape.layers, self._pins.total, *width), torch.float32, shape.device),
        ]
        self.storage = self._memory[0].tensor  # [layers, tokens, 2, kv_heads, head_dim]: keys, values
        # PyTorch does not index FP8 tensors on every device, so they are moved as bytes.
        self._items = self.storage.view(torch.uint8) if shape.fp8 else self.storage
        self._unrotated = self._memory[1].tensor  # [layers, pins, kv_heads, head_dim]
        self._rotation = _rotation_table(shape, 0)  # cosines, sines of distances up to the largest capacity of a slot

    @property
    def size_bytes(self) -> int:
        """Size of the storage in bytes, most of which may be unused."""
        return sum(memory.tensor.nbytes for memory in self._memory)

    @property
    def limit(self) -> int:
        """Bytes that open slots may take."""
        return self.size_bytes if self.max_bytes is None else self.max_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes that are reserved for open slots."""
        return self._slots.used * self.shape.token_bytes + self._pins.used * self.shape.pin_bytes

    def slot_bytes(self, capacity: int, pin_capacity: int) -> int:
        """Return the bytes that a slot takes."""
        tokens, pins = self._slots.rounded(capacity), self._pins.rounded(pin_capacity)
        return tokens * self.shape.token_bytes + pins * self.shape.pin_bytes

    # slots

    def open(self, capacity: int, pin_capacity: int) -> Slot:
        """Return an empty slot for ``capacity`` tokens, of which ``pin_capacity`` can be pinned.

        Raise ``CapacityError`` if no free range is large enough.
        """
        size = self.slot_bytes(capacity, pin_capacity)
        within_limit = self.max_bytes is None or self.used_bytes + size <= self.max_bytes
        base = self._slots.allocate(capacity) if within_limit else None
        pin_base = self._pins.allocate(pin_capacity) if base is not None else None
        if base is None or pin_base is None:
            if base is not None:
                self._slots.free(base, capacity)
            raise CapacityError(
                f"a session of {capacity} tokens ({size >> 20} MiB) does not fit into the memory for keys and values: "
                f"{self.used_bytes >> 20} of {self.limit >> 20} MiB are reserved, and the largest free range has "
                f"{self._slots.largest} tokens; close other sessions, use a smaller window, or allow the engine more memory"
            )
        if capacity > self._rotation.shape[1]:
            self._rotation = _rotation_table(self.shape, 1 << (capacity - 1).bit_length())
        return Slot(capacity, pin_capacity, base, pin_base)

    def close(self, slot: Slot) -> None:
        """Release a slot. It must not be used afterwards."""
        self._slots.free(slot.base, slot.capacity)
        self._pins.free(slot.pin_base, slot.pin_capacity)
        self._memory[0].discard(slot.base, self._slots.rounded(slot.capacity))
        self._memory[1].discard(slot.pin_base, self._pins.rounded(slot.pin_capacity))

    # contents

    def write(self, layer: int, tokens: Tensor, keys_values: Tensor) -> None:
        """Write rotated keys and values [N, 2, kv_heads, head_dim] of a layer to the token indices ``tokens`` [N]."""
        self._items[layer].index_copy_(0, tokens, self._encode(keys_values))

    def gather(self, layer: int, tokens: Tensor) -> Tensor:
        """Return keys and values [n, 2, kv_heads, head_dim] of a layer at the token indices ``tokens`` [n]."""
        return self._decode(self._items[layer].index_select(0, tokens))

    def view(self, layer: int, begin: int, count: int) -> Tensor:
        """Return keys and values [count, 2, kv_heads, head_dim] of the tokens from index ``begin`` on: no copy without FP8."""
        return self._decode(self._items[layer, begin : begin + count])

    def _encode(self, values: Tensor) -> Tensor:
        """Return values as they are stored. FP8 has no infinity; what is larger than its largest number becomes that."""
        return values.clamp(-FP8_MAX, FP8_MAX).to(FP8).view(torch.uint8) if self.shape.fp8 else values

    def _decode(self, items: Tensor) -> Tensor:
        """Return stored values in the model's type."""
        return items.view(FP8).to(self.shape.dtype) if self.shape.fp8 else items

    def relocate(self, slots: Iterable[Slot]) -> None:
        """Execute the moves of ``slots``, of as many together as the memory for ``MAX_MOVED_TOKENS`` allows.

        If this fails, it can be repeated: slots whose tokens have been moved have no moves left.
        """
        for group in _bounded(slots, MAX_MOVED_TOKENS):
            if (plan := plan_relocation(group)) is not None:
                self._execute(plan)
                for slot in group:
                    slot.moved()

    def _execute(self, plan: Relocation) -> None:
        device = self.shape.device
        new, new_positions, new_targets, placed, shifted, distances, sources, targets = (
            to_device(indices, device)
            for indices in (
                plan.new_pins, plan.new_pin_positions, plan.new_pin_targets, plan.placed, plan.shifted, plan.distances,
                plan.value_sources, plan.targets,
            )
        )  # fmt: skip
        if len(new):
            keys = self._rotate(self._keys(new), -new_positions)
            self._unrotated.index_copy_(1, new_targets, keys)
        keys = self._unrotated.index_select(1, placed)  # [layers, n, kv_heads, head_dim]
        if len(shifted):
            keys = torch.cat([keys, self._keys(shifted)], 1)
        keys = self._encode(self._rotate(keys, distances).to(self.shape.dtype))
        # Indexing with the tokens and 1 at once would be several times slower on CPUs.
        values = self._items.index_select(1, sources)[:, :, 1]
        self._items.index_copy_(1, targets, torch.stack([keys, values], 2))

    def _keys(self, tokens: Tensor) -> Tensor:
        """Return the keys [layers, n, kv_heads, head_dim] at token indices [n], float32."""
        return self._decode(self._items.index_select(1, tokens)[:, :, 0].contiguous()).float()

    def _rotate(self, keys: Tensor, distances: Tensor) -> Tensor:
        """Rotate float32 keys [layers, n, kv_heads, head_dim] by ``distances`` [n] positions. Source: RoFormer §3.2."""
        cos, sin = self._rotation.index_select(1, distances.abs()).unsqueeze(2)  # [n, 1, head_dim / 2]
        sin = sin * distances.sign()[:, None, None]
        first, second = keys.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _bounded(slots: Iterable[Slot], tokens: int) -> Iterator[list[Slot]]:
    """Yield the slots in groups that move about ``tokens`` tokens at most."""
    group, total = list[Slot](), 0
    for slot in slots:
        count = slot.moved_tokens
        if group and total + count > tokens:
            yield group
            group, total = [], 0
        group.append(slot)
        total += count
    yield group


def _rotation_table(shape: CacheShape, size: int) -> Tensor:
    """Return cosines and sines [2, size, head_dim / 2] of all distances below ``size``, float32, computed in float64."""
    exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequencies = (1.0 / (shape.rope_theta**exponent)).double()
    angles = torch.arange(size)[:, None].double() * frequencies
    return torch.stack([angles.cos(), angles.sin()]).float().to(shape.device)


class _Memory:
    """A tensor of zeros whose second axis can be discarded in parts. On a CPU it is mapped, see the module's docstring."""

    def __init__(self, size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._bytes_per_item = math.prod(size[2:]) * dtype.itemsize
        self._mapped: mmap.mmap | None = None
        count = math.prod(size)
        if device.type != "cpu" or sys.platform != "linux" or not count:
            self.tensor = _allocate(size, dtype, device)
            return
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        try:
            self._mapped = mmap.mmap(-1, count * dtype.itemsize, flags=flags)
        except OSError as error:
            raise CapacityError(
                f"{count * dtype.itemsize >> 20} MiB of addresses for keys and values cannot be reserved ({error}); allow the "
                "engine less memory (kv_memory_mb, EngineConfig.kv_bytes)"
            ) from error
        self.tensor = torch.frombuffer(self._mapped, dtype=dtype).view(size)

    def discard(self, begin: int, count: int) -> None:
        """Return the pages of items [begin, begin + count) of the second axis to the operating system; they become zero."""
        if self._mapped is None or not count:
            return
        layers, items = self.tensor.shape[:2]
        for layer in range(layers):
            first = (layer * items + begin) * self._bytes_per_item
            last = first + count * self._bytes_per_item
            page = mmap.PAGESIZE
            first, last = -(-first // page) * page, last // page * page  # whole pages only
            if last > first:
                self._mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _allocate(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    try:
        return torch.zeros(size, dtype=dtype, device=device)
    except (RuntimeError, MemoryError) as error:
        mebibytes = math.prod(size) * dtype.itemsize >> 20
        raise CapacityError(
            f"{mebibytes} MiB for keys and values cannot be allocated on {device} ({error}); allow the engine less memory "
            "(kv_memory_mb, EngineConfig.kv_bytes)"
        ) from error
