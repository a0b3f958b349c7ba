"""Keys and values of one session: a preallocated slot with mark, rollback and eviction. It depends on no session and no model.

The position of a token is its index in the slot, so positions are not stored. The live tokens are one contiguous range
``[start, end)``: pinned tokens first, then the window. Evicting the oldest frame moves the pinned tokens forward into its
place, which closes the gap. Their keys are rotated from unrotated float32 copies, so no error accumulates; the keys of the
window stay unchanged. When the range reaches the end of the slot, it is moved to the beginning and its keys are rotated by the
same distance; this happens to a key only a few times. Attention can therefore read one view and never gathers.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from mmap import mmap

import torch
from torch import Tensor

from mmduet.duet import ContextLayout, Segment, count_evictions, eviction_blocks
from mmduet.errors import CapacityError


@dataclass(frozen=True)
class CacheShape:
    """Shape, type and device of the keys and values of one token."""

    layers: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Mark:
    """A state to roll back to. It is invalid once tokens have been evicted or moved."""

    end: int
    segments: int
    epoch: int


class Slot:
    """Keys and values for up to ``capacity`` tokens, each [layers, kv_heads, capacity, head_dim]."""

    def __init__(self, shape: CacheShape, capacity: int) -> None:
        size = (shape.layers, shape.kv_heads, capacity, shape.head_dim)
        self.keys, self.values = _allocate(size, shape), _allocate(size, shape)
        self.capacity = capacity
        self.start = self.end = 0
        self._frequencies = _inverse_frequencies(shape)
        self._pinned_keys: Tensor | None = None  # unrotated, float32 [layers, kv_heads, pinned, head_dim]
        self._pinned_values: Tensor | None = None
        self._segments: deque[Segment] = deque()  # after the pinned tokens, oldest first
        self._epoch = 0  # counts evictions and moves

    # reading

    @property
    def length(self) -> int:
        """Number of live tokens."""
        return self.end - self.start

    @property
    def pinned_tokens(self) -> int:
        """Number of pinned tokens at the front that evictions have left."""
        return 0 if self._pinned_keys is None else self._pinned_keys.shape[2]

    @property
    def frames(self) -> int:
        """Number of frames in the window."""
        return sum(segment.is_frame for segment in self._segments)

    def layout(self) -> ContextLayout:
        """Return a snapshot of what the slot holds."""
        return ContextLayout(tuple(self._segments), self.pinned_tokens)

    def evictions_needed(self, max_frames: int, new_frames: int, new_tokens: int) -> int:
        """Return how often to call ``evict_frame`` before ``new_tokens``, ``new_frames`` of them frames, are appended."""
        return count_evictions(
            self._segments,
            frames=self.frames,
            tokens=self.length,
            max_frames=max_frames,
            new_frames=new_frames,
            max_tokens=self.capacity,
            new_tokens=new_tokens,
        )

    @property
    def size_bytes(self) -> int:
        """Memory of keys and values, in bytes."""
        return 2 * self.keys.numel() * self.keys.element_size()

    # writing

    def reserve(self, count: int) -> None:
        """Make ``count`` tokens fit at the end, moving the live range if necessary. Raise ``CapacityError`` if impossible."""
        if self.end + count <= self.capacity:
            return
        if self.length + count > self.capacity:
            raise CapacityError(
                f"the session holds {self.length} of at most {self.capacity} tokens and cannot take {count} more; "
                "use a smaller window (without one, every frame is kept) or shorter texts"
            )
        self._move_back(self.start)

    def append(self, count: int, *, pinned: bool = False, is_frame: bool = False) -> None:
        """Append ``count`` tokens, whose keys and values have been written at [end, end + count), as one segment."""
        self._segments.append(Segment(count, pinned, is_frame))
        self.end += count

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write the rotated keys and the values [kv_heads, n, head_dim] of the next tokens of one layer."""
        count = keys.shape[1]
        self.keys[layer, :, self.end : self.end + count] = keys
        self.values[layer, :, self.end : self.end + count] = values

    def view(self, layer: int, pending: int) -> tuple[Tensor, Tensor]:
        """Return keys and values [kv_heads, length + pending, head_dim], with ``pending`` tokens not yet appended."""
        live = slice(self.start, self.end + pending)
        return self.keys[layer, :, live], self.values[layer, :, live]

    # rollback

    def mark(self) -> Mark:
        """Return the current state, to be passed to ``rollback``."""
        return Mark(self.end, len(self._segments), self._epoch)

    def rollback(self, mark: Mark) -> None:
        """Remove everything appended since ``mark``. Raise ``CapacityError`` if tokens have been moved since then."""
        if mark.epoch != self._epoch:
            raise CapacityError(
                "tokens have moved since the mark was taken; take marks after reserve() and evict_frame()"
            )
        while len(self._segments) > mark.segments:
            self._segments.pop()
        self.end = mark.end

    # eviction

    def evict_frame(self) -> None:
        """Evict the oldest frame and the unpinned text before it. Pinned text before it joins the pinned tokens."""
        for segment in next(eviction_blocks(self._segments), []):
            self._segments.popleft()
            if segment.pinned:
                self._pin(segment.tokens)
            else:
                self._drop(segment.tokens)
        self._epoch += 1
        self._place_pinned()

    def _pin(self, count: int) -> None:
        """Add the next ``count`` tokens to the pinned ones, and copy their unrotated keys and their values out of the slot."""
        span = slice(self.start + self.pinned_tokens, self.start + self.pinned_tokens + count)
        positions = torch.arange(span.start, span.stop, device=self.keys.device)
        keys = self._rotate(self.keys[:, :, span].float(), -positions)
        values = self.values[:, :, span].clone()
        if self._pinned_keys is None or self._pinned_values is None:
            self._pinned_keys, self._pinned_values = keys, values
        else:
            self._pinned_keys = torch.cat([self._pinned_keys, keys], 2)
            self._pinned_values = torch.cat([self._pinned_values, values], 2)

    def _drop(self, count: int) -> None:
        self.start += count

    def _place_pinned(self) -> None:
        """Write the pinned tokens to [start, start + pinned), with keys rotated for these positions."""
        if self._pinned_keys is None or self._pinned_values is None:
            return
        span = slice(self.start, self.start + self.pinned_tokens)
        positions = torch.arange(span.start, span.stop, device=self.keys.device)
        self.keys[:, :, span] = self._rotate(self._pinned_keys, positions).to(self.keys.dtype)
        self.values[:, :, span] = self._pinned_values

    def _move_back(self, distance: int) -> None:
        """Move the live range ``distance`` positions towards the beginning and rotate its keys accordingly."""
        source, target = slice(self.start, self.end), slice(self.start - distance, self.end - distance)
        shift = torch.full((self.length,), -distance, device=self.keys.device)
        self.keys[:, :, target] = self._rotate(self.keys[:, :, source].float(), shift).to(self.keys.dtype)
        self.values[:, :, target] = self.values[:, :, source].clone()
        self.start, self.end = target.start, target.stop
        self._epoch += 1
        self._place_pinned()

    def _rotate(self, keys: Tensor, distance: Tensor) -> Tensor:
        """Rotate float32 keys [..., n, head_dim] by ``distance`` [n] positions. Source: RoFormer §3.2."""
        angle = distance[:, None].double() * self._frequencies  # [n, head_dim / 2]
        cos, sin = angle.cos().float(), angle.sin().float()
        first, second = keys.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _allocate(size: tuple[int, ...], shape: CacheShape) -> Tensor:
    """Return zeros. On a CPU they are mapped memory, which returns to the operating system when the slot is freed.

    Memory of ``malloc`` would stay with the process: sessions end in any order, and what follows them keeps the pool large.
    """
    count = math.prod(size)
    if shape.device.type != "cpu" or not count:
        return torch.zeros(size, dtype=shape.dtype, device=shape.device)
    return torch.frombuffer(mmap(-1, count * shape.dtype.itemsize), dtype=shape.dtype).view(size)


def _inverse_frequencies(shape: CacheShape) -> Tensor:
    exponent = torch.arange(0, shape.head_dim, 2, device=shape.device, dtype=torch.float32) / shape.head_dim
    return (1.0 / (shape.rope_theta**exponent)).double()
