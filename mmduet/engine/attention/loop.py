"""Attention session by session: the simplest backend, which defines the results of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmduet.engine.kv_pool import KVPool
from mmduet.engine.step_batch import StepBatch


@dataclass(frozen=True)
class _Part:
    """Queries [begin, end) of the row, over ``length`` tokens from index ``kv_begin`` on."""

    begin: int
    end: int
    kv_begin: int
    length: int
    mask: Tensor | None  # bool [queries, length]; None: all, for a single query


class LoopAttention:
    """One attention call for each session."""

    def __init__(self, batch: StepBatch, pool: KVPool) -> None:
        self._pool = pool
        masks: dict[tuple[int, int], Tensor | None] = {}
        self._parts = []
        spans = zip(
            batch.offsets.tolist(),
            batch.counts.tolist(),
            batch.kv_begin.tolist(),
            batch.kv_length.tolist(),
            strict=False,
        )
        for begin, count, kv_begin, length in spans:
            if (count, length) not in masks:
                masks[count, length] = causal_mask(count, length, pool.shape.device)
            self._parts.append(_Part(begin, begin + count, kv_begin, length, masks[count, length]))

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Return outputs [N, heads, head_dim], see ``Attention``."""
        rows = queries.transpose(0, 1)[None]  # [1, heads, N, head_dim]
        outputs = []
        for part in self._parts:
            context = self._pool.view(layer, part.kv_begin, part.length)  # [length, 2, kv_heads, head_dim]
            keys, values = context.permute(1, 2, 0, 3)
            outputs.append(
                scaled_dot_product_attention(
                    rows[:, :, part.begin : part.end], keys[None], values[None], attn_mask=part.mask, enable_gqa=True
                )
            )
        return torch.cat(outputs, dim=2)[0].transpose(0, 1)


class LoopBackend:
    """See the module's docstring."""

    name = "loop"

    def plan(self, batch: StepBatch, pool: KVPool) -> LoopAttention:
        """Prepare the attention of a step."""
        return LoopAttention(batch, pool)


def causal_mask(queries: int, length: int, device: torch.device) -> Tensor | None:
    """Return which of ``length`` tokens the last ``queries`` of them may attend to, bool [queries, length]; None: all."""
    if queries == 1:
        return None
    return torch.ones(queries, length, dtype=torch.bool, device=device).tril(length - queries)
