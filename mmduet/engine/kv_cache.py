"""One session's keys and values: a preallocated slot with explicit mark, rollback and eviction; knows no session, no model.

A token's position *is* its place in the slot, so there is no book-keeping of positions. The live tokens are one contiguous
run ``[start, end)``: pinned tokens first, then the window. Evicting the oldest frame moves the pinned tokens forward over
its place, which closes the gap: their keys are rotated from unrotated float32 sources, so no error accumulates, and the
window's keys stay as they were. When the run reaches the slot's end, everything is moved back to its beginning and rotated by
the same distance; a window key lives through few such moves. Attention therefore reads one view, never a gather.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from mmduet.duet import ContextLayout, Segment, eviction_blocks
from mmduet.errors import CapacityError


@dataclass(frozen=True)
class CacheShape:
    """What a token's keys and values look like."""

    layers: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Mark:
    """A place to roll back to; valid until something before it is evicted."""

    end: int
    segments: int
    epoch: int


class Slot:
    """Room for ``capacity`` tokens. ``keys`` and ``values`` are [layers, kv_heads, capacity, head_dim]."""

    def __init__(self, shape: CacheShape, capacity: int) -> None:
        size = (shape.layers, shape.kv_heads, capacity, shape.head_dim)
        self.keys = torch.zeros(size, dtype=shape.dtype, device=shape.device)
        self.values = torch.zeros(size, dtype=shape.dtype, device=shape.device)
        self.capacity = capacity
        self.start = self.end = 0
        self._frequencies = _inverse_frequencies(shape)
        self._pinned_sources: Tensor | None = None  # float32 [layers, kv_heads, pinned, head_dim], unrotated
        self._pinned_values: Tensor | None = None
        self._segments: deque[Segment] = deque()  # after the pinned head, oldest first
        self._epoch = 0  # counts evictions and moves

    # reading

    @property
    def length(self) -> int:
        """Live tokens."""
        return self.end - self.start

    @property
    def pinned(self) -> int:
        """Tokens of the head that eviction has left standing."""
        return 0 if self._pinned_sources is None else self._pinned_sources.shape[2]

    @property
    def frames(self) -> int:
        """Frames in the window."""
        return sum(segment.is_frame for segment in self._segments)

    def layout(self) -> ContextLayout:
        """Return a snapshot of what the slot holds."""
        return ContextLayout(tuple(self._segments), self.pinned)

    @property
    def bytes(self) -> int:
        """Memory of the slot."""
        return 2 * self.keys.numel() * self.keys.element_size()

    # writing

    def reserve(self, count: int) -> None:
        """Make sure ``count`` more tokens fit at the end, moving the live run back if need be. Raises ``CapacityError``."""
        if self.end + count <= self.capacity:
            return
        if self.length + count > self.capacity:
            raise CapacityError(
                f"the session holds {self.length} tokens of {self.capacity} and cannot take {count} more; "
                "open it with a smaller window, or with more room"
            )
        self._move_back(self.start)

    def append(self, count: int, *, pinned: bool = False, frame: bool = False) -> None:
        """Count ``count`` tokens, whose keys and values are written already at [end, end + count), as one segment."""
        self._segments.append(Segment(count, pinned, frame))
        self.end += count

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put the keys (rotated to their positions) and values [kv_heads, n, head_dim] of tokens to come at the end."""
        count = keys.shape[1]
        self.keys[layer, :, self.end : self.end + count] = keys
        self.values[layer, :, self.end : self.end + count] = values

    def view(self, layer: int, pending: int) -> tuple[Tensor, Tensor]:
        """Keys and values [kv_heads, length + pending, head_dim] of a layer, ``pending`` just written tokens included."""
        run = slice(self.start, self.end + pending)
        return self.keys[layer, :, run], self.values[layer, :, run]

    # going back

    def mark(self) -> Mark:
        """Remember this place."""
        return Mark(self.end, len(self._segments), self._epoch)

    def rollback(self, mark: Mark) -> None:
        """Forget everything appended since ``mark``. Raises ``CapacityError`` if tokens have moved since then."""
        if mark.epoch != self._epoch:
            raise CapacityError("the slot has moved since the mark was taken; take marks after reserve() and evict()")
        while len(self._segments) > mark.segments:
            self._segments.pop()
        self.end = mark.end

    # forgetting

    def evict_frame(self) -> None:
        """Drop the oldest frame and every unpinned turn before it; pinned turns on the way join the head."""
        for segment in next(eviction_blocks(self._segments), []):
            self._segments.popleft()
            if segment.pinned:
                self._pin(segment.tokens)
            else:
                self._drop(segment.tokens)
        self._epoch += 1
        self._place_pinned()

    def _pin(self, count: int) -> None:
        """The ``count`` tokens after the pinned head join it; their sources are taken out of the slot once."""
        run = slice(self.start + self.pinned, self.start + self.pinned + count)
        positions = torch.arange(run.start, run.stop, device=self.keys.device)
        sources = self._rotate(self.keys[:, :, run].float(), -positions)
        values = self.values[:, :, run].clone()
        if self._pinned_sources is None or self._pinned_values is None:
            self._pinned_sources, self._pinned_values = sources, values
        else:
            self._pinned_sources = torch.cat([self._pinned_sources, sources], 2)
            self._pinned_values = torch.cat([self._pinned_values, values], 2)

    def _drop(self, count: int) -> None:
        self.start += count

    def _place_pinned(self) -> None:
        """Write the pinned head at [start, start + pinned), its keys rotated for those positions."""
        if self._pinned_sources is None or self._pinned_values is None:
            return
        run = slice(self.start, self.start + self.pinned)
        positions = torch.arange(run.start, run.stop, device=self.keys.device)
        self.keys[:, :, run] = self._rotate(self._pinned_sources, positions).to(self.keys.dtype)
        self.values[:, :, run] = self._pinned_values

    def _move_back(self, distance: int) -> None:
        """Move the live run ``distance`` places towards the beginning, and its keys' rotation with it."""
        run, target = slice(self.start, self.end), slice(self.start - distance, self.end - distance)
        shift = torch.full((self.length,), -distance, device=self.keys.device)
        self.keys[:, :, target] = self._rotate(self.keys[:, :, run].float(), shift).to(self.keys.dtype)
        self.values[:, :, target] = self.values[:, :, run].clone()
        self.start, self.end = target.start, target.stop
        self._epoch += 1
        self._place_pinned()

    def _rotate(self, keys: Tensor, distance: Tensor) -> Tensor:
        """Rotary embedding of float32 keys [..., n, head_dim] by ``distance`` [n] positions. Source: RoFormer §3.2."""
        angle = distance[:, None].double() * self._frequencies  # [n, head_dim / 2]
        cos, sin = angle.cos().float(), angle.sin().float()
        first, second = keys.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _inverse_frequencies(shape: CacheShape) -> Tensor:
    exponent = torch.arange(0, shape.head_dim, 2, device=shape.device, dtype=torch.float32) / shape.head_dim
    return (1.0 / (shape.rope_theta**exponent)).double()
