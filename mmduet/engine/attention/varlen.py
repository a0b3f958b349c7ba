"""Attention by PyTorch's kernel for sequences of different lengths: CUDA, float16 or bfloat16.

The contexts of all sessions are gathered into one row [total, kv_heads, head_dim] per layer. That moves each context once more
than a paged kernel would, a few percent of a step, and needs no kernel with pages.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from mmduet.engine.host_copy import to_device
from mmduet.engine.kv_pool import KVPool
from mmduet.engine.step_batch import Integers, StepBatch


class Kernel(Protocol):
    """Attention with a causal mask that is aligned at the ends of the sequences."""

    def __call__(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        query_offsets: Tensor,
        key_offsets: Tensor,
        longest_query: int,
        longest_key: int,
        used_keys: Tensor | None = None,
    ) -> Tensor:
        """Return outputs [N, heads, head_dim].

        Args:
            queries: [N, heads, head_dim].
            keys: [total, kv_heads, head_dim], and ``values`` likewise.
            query_offsets: Where the queries of each sequence begin, int32 [J + 1]; ``key_offsets`` likewise.
            longest_query: Largest number of queries of a sequence; ``longest_key`` likewise.
            used_keys: How many keys of each sequence count, from its first one on, int32 [J]; None: all.
        """


class VarlenAttention:
    """One kernel call for all sessions."""

    def __init__(self, batch: StepBatch, pool: KVPool, kernel: Kernel) -> None:
        self._pool, self._kernel, device = pool, kernel, pool.shape.device
        offsets = np.concatenate([np.zeros(1, np.int64), batch.kv_length.cumsum()])
        self._query_offsets = to_device(batch.offsets.astype(np.int32), device)
        self._key_offsets = to_device(offsets.astype(np.int32), device)
        self._tokens = to_device(_context_tokens(batch, offsets), device)
        self._longest = int(batch.counts.max()), int(batch.kv_length.max())

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Return outputs [N, heads, head_dim], see ``Attention``."""
        context = self._pool.gather(layer, self._tokens)  # [total, 2, kv_heads, head_dim]
        keys, values = context.unbind(1)
        return self._kernel(queries, keys, values, self._query_offsets, self._key_offsets, *self._longest)


class VarlenBackend:
    """See the module's docstring. ``kernel`` computes the attention; by default PyTorch's."""

    name = "varlen"

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel or torch_kernel

    def plan(self, batch: StepBatch, pool: KVPool) -> VarlenAttention:
        """Prepare the attention of a step."""
        return VarlenAttention(batch, pool, self._kernel)


def torch_kernel(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    longest_query: int,
    longest_key: int,
    used_keys: Tensor | None = None,
) -> Tensor:
    """Compute attention with ``torch.nn.attention.varlen``, see ``Kernel``."""
    from torch.nn.attention.varlen import varlen_attn  # PyTorch 2.12 and later

    outputs = varlen_attn(
        queries, keys, values, query_offsets, key_offsets, longest_query, longest_key,
        window_size=(-1, 0), enable_gqa=True, seqused_k=used_keys,
    )  # fmt: skip
    assert isinstance(outputs, Tensor)  # nothing else was requested
    return outputs


def _context_tokens(batch: StepBatch, offsets: Integers) -> Integers:
    """Return the index of every token of every context [total], session by session."""
    return np.arange(offsets[-1]) + np.repeat(batch.kv_begin - offsets[:-1], batch.kv_length)
