"""Steps of fixed shape over fixed tensors, as CUDA graphs need them: only the contents of the tensors change.

All sessions have the same number of new tokens, and room for the same number of context tokens. Missing sessions are padding:
they read and write a scratch slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmduet.engine.attention.varlen import Kernel
from mmduet.engine.forward import LayerAttention
from mmduet.engine.host_copy import to_device
from mmduet.engine.kv_pool import KVPool
from mmduet.engine.slot import Slot
from mmduet.engine.step_batch import Integers, StepBatch
from mmduet.model.inference.decoder import Decoder


@dataclass(frozen=True)
class StepShape:
    """Number of sessions, new tokens of each, and context tokens of each."""

    sessions: int
    queries: int
    context: int

    @property
    def rows(self) -> int:
        """Number of new tokens."""
        return self.sessions * self.queries


@dataclass(frozen=True)
class StaticPlan:
    """The contents of the integer tensors of a step: positions and token indices of the rows, contexts and their lengths.

    ``context`` [sessions * context] holds the token indices of each session's context, followed by any valid index.
    """

    positions: Integers
    tokens: Integers
    context: Integers
    used: Integers

    @classmethod
    def build(cls, batch: StepBatch, shape: StepShape, scratch: Slot) -> StaticPlan:
        """Plan ``batch``, whose sessions have ``shape.queries`` new tokens each and fit into ``shape``."""
        missing = shape.sessions - len(batch.counts)
        padding = np.tile(np.arange(shape.queries), missing)
        context = batch.kv_begin[:, None] + np.minimum(np.arange(shape.context), batch.kv_length[:, None] - 1)
        scratch_context = np.full((missing, shape.context), scratch.base)
        return cls(
            np.concatenate([batch.positions, padding]),
            np.concatenate([batch.tokens, scratch.base + padding]),
            np.concatenate([context, scratch_context]).ravel(),
            np.concatenate([batch.kv_length, np.full(missing, shape.queries)]),
        )

    def packed(self) -> Integers:
        """Return everything as one array, for one copy to the device."""
        return np.concatenate([self.positions, self.tokens, self.context, self.used])


class StaticAttention:
    """Attention over gathered contexts of equal size, of which the first ``used`` tokens count."""

    def __init__(
        self, pool: KVPool, shape: StepShape, queries: int, context: Tensor, used: Tensor, kernel: Kernel
    ) -> None:
        self._pool, self._context, self._used, self._kernel = pool, context, used, kernel
        self._longest = queries, shape.context
        steps = torch.arange(shape.sessions + 1, dtype=torch.int32, device=context.device)
        self._query_offsets, self._key_offsets = steps * queries, steps * shape.context

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Return outputs [N, heads, head_dim], see ``Attention``."""
        keys, values = self._pool.gather(layer, self._context).unbind(1)
        return self._kernel(
            queries, keys, values, self._query_offsets, self._key_offsets, *self._longest, self._used.int()
        )


class StaticStep:
    """The tensors of a step of one shape, and the computation on them."""

    def __init__(
        self, decoder: Decoder, pool: KVPool, shape: StepShape, scratch: Slot, kernel: Kernel, width: int
    ) -> None:
        """``width`` is D, the size of the embeddings. The tensors hold a step of padding only."""
        self.shape, self._decoder, self._pool, self._scratch = shape, decoder, pool, scratch
        device, dtype = pool.shape.device, pool.shape.dtype
        self.embeds = torch.zeros(shape.rows, width, dtype=dtype, device=device)
        self.hidden = torch.zeros(shape.sessions, width, dtype=dtype, device=device)
        sizes = [shape.rows, shape.rows, shape.sessions * shape.context, shape.sessions]
        self._integers = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        self._positions, tokens, context, used = torch.split(self._integers, sizes)
        self._attend = LayerAttention(
            pool,
            tokens,
            StaticAttention(pool, shape, shape.queries, context, used, kernel),
            StaticAttention(pool, shape, 1, context, used, kernel),
        )
        self._last_rows = torch.arange(1, shape.sessions + 1, device=device) * shape.queries - 1
        self.load(self.embeds[:0], StepBatch.build([]))

    def load(self, embeds: Tensor, batch: StepBatch) -> None:
        """Copy a step into the tensors: embeddings [N, D] of sessions with ``shape.queries`` new tokens each."""
        plan = StaticPlan.build(batch, self.shape, self._scratch)
        self._integers.copy_(to_device(plan.packed(), self._integers.device))
        self.embeds[: len(embeds)] = embeds

    def compute(self) -> None:
        """Compute ``hidden`` [sessions, D] and write keys and values. No operation depends on the contents of a tensor."""
        rows = None if self.shape.queries == 1 else self._last_rows
        rotary = self._decoder.rotary(self._positions)
        self.hidden.copy_(self._decoder.forward(self.embeds, rotary, self._attend, rows))
