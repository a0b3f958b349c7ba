"""Which token of a training sequence may attend to which, kept as four integers per token instead of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Longest sequence whose mask may be kept as a matrix: at 8,192 tokens it takes 256 MB per sample in float32.
MAX_DENSE_TOKENS = 2048
FLEX_BLOCK = 128  # queries and keys in a block of FlexAttention


class _Tokens(NamedTuple):
    """Some tokens: their place in the sequence, and their entries of a ``BranchMask``."""

    place: Tensor
    limits: Tensor
    branches: Tensor
    visible_from_frame: Tensor
    evicted_at_frame: Tensor


@dataclass(frozen=True)
class BranchMask:
    """The attention mask of B sequences of T tokens, from four lists of ``TrainingSequence``, each int32 [B, T].

    Branch 0 is the main line. Padding (branch -1) attends to itself only, so that no softmax row is empty. No token attends to
    a later one.
    """

    limits: Tensor
    branches: Tensor
    visible_from_frame: Tensor
    evicted_at_frame: Tensor

    @property
    def size(self) -> int:
        """T, the number of tokens of each sequence."""
        return self.limits.shape[1]

    def to(self, device: torch.device) -> BranchMask:
        """Return the mask on ``device``."""
        return BranchMask(*(tensor.to(device) for tensor in self._fields()))

    def dense(self) -> Tensor:
        """Return the whole mask, bool [B, 1, T, T]. Its memory grows with the square of T."""
        return self.block(0, self.size)

    def block(self, first: int, last: int) -> Tensor:
        """Return the mask of queries ``first`` to ``last`` (excluded) and all keys before ``last``, bool [B, 1, Q, K]."""
        index = torch.arange(last, dtype=torch.int32, device=self.limits.device)
        queries = _Tokens(index[first:, None], *(field[:, first:last, None] for field in self._fields()))
        keys = _Tokens(index, *(field[:, None, :last] for field in self._fields()))
        return _may_attend(queries, keys)[:, None]

    @cached_property
    def additive(self) -> Tensor:
        """The whole mask as attention scores to be added, float32 [B, 1, T, T], for all layers of the network."""
        mask = self.dense()
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))

    @property
    def mask_mod(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """The rule as FlexAttention's function of (batch, head, query, key), indices of any equal shape."""
        fields = self._fields()

        def allows(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            queries, keys = (_Tokens(index, *(field[batch, index] for field in fields)) for index in (query, key))
            return _may_attend(queries, keys)

        return allows

    @cached_property
    def flex_block_mask(self) -> Any:
        """The mask as a ``BlockMask`` of FlexAttention, for all layers of the network."""
        from torch.nn.attention.flex_attention import BlockMask

        occupied = self.occupied_blocks(FLEX_BLOCK)[:, None]
        indices = occupied.int().argsort(dim=-1, descending=True, stable=True).int()
        return BlockMask.from_kv_blocks(
            occupied.sum(dim=-1, dtype=torch.int32),
            indices,
            BLOCK_SIZE=FLEX_BLOCK,
            mask_mod=self.mask_mod,
            seq_lengths=(self.size, self.size),
        )

    def occupied_blocks(self, side: int) -> Tensor:
        """Return which squares of ``side`` queries and keys hold an allowed pair, bool [B, ceil(T / side), ceil(T / side)]."""
        starts = range(0, self.size, side)
        occupied = torch.zeros(len(self.limits), len(starts), len(starts), dtype=torch.bool, device=self.limits.device)
        for row, first in enumerate(starts):
            reachable = self.block(first, min(first + side, self.size)).any(dim=2)[:, 0]  # [B, K]
            padded = torch.nn.functional.pad(reachable, (0, (row + 1) * side - reachable.shape[1]))
            occupied[:, row, : row + 1] = padded.view(-1, row + 1, side).any(dim=2)
        return occupied

    def _fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.limits, self.branches, self.visible_from_frame, self.evicted_at_frame


def _may_attend(query: _Tokens, key: _Tokens) -> Tensor:
    """Return whether queries may attend to keys; the tensors broadcast against each other."""
    in_window = key.evicted_at_frame > query.visible_from_frame
    main = (key.branches == 0) & (key.place <= query.limits) & in_window
    own = (query.branches == key.branches) & (query.branches > 0) & (key.place <= query.place)
    return main | own | (query.place == key.place)
