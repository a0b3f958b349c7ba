"""The forward of the language model over a packed row of new tokens of many sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mmduet.engine.attention import Attention, Backend
from mmduet.engine.host_copy import to_device
from mmduet.engine.kv_pool import KVPool
from mmduet.engine.step_batch import StepBatch
from mmduet.model.inference.decoder import Decoder


class Forward(Protocol):
    """Computes the last hidden states of a step and writes its keys and values."""

    def __call__(self, embeds: Tensor, batch: StepBatch) -> Tensor:
        """Return final-norm hidden states [J, D] of the last token of each session, for embeddings [N, D]."""


@dataclass(frozen=True)
class LayerAttention:
    """Attention of one step as the decoder calls it: write the new keys and values of a layer, then attend."""

    pool: KVPool
    tokens: Tensor  # [N] indices in the pool
    attention: Attention
    of_last_rows: Attention

    def __call__(self, layer: int, queries: Tensor, keys_values: Tensor, last: bool) -> Tensor:
        """Return outputs [Nq, heads * head_dim] of queries [Nq, heads, head_dim], see ``Attend``."""
        self.pool.write(layer, self.tokens, keys_values)
        attention = self.of_last_rows if last else self.attention
        return attention.attend(layer, queries).flatten(1)


class PackedForward:
    """One forward for steps of any shape."""

    def __init__(self, decoder: Decoder, pool: KVPool, backend: Backend, *, is_routed: bool = False) -> None:
        """``is_routed``: layers add to rows by their index, so that all rows must pass through all layers."""
        self.decoder, self.pool, self.backend, self.is_routed = decoder, pool, backend, is_routed

    def __call__(self, embeds: Tensor, batch: StepBatch) -> Tensor:
        """Return final-norm hidden states [J, D], see ``Forward``."""
        device = embeds.device
        positions, tokens = to_device(batch.positions, device), to_device(batch.tokens, device)
        rotary, attention = self.decoder.rotary(positions), self.backend.plan(batch, self.pool)
        if batch.size == len(batch.counts):  # each row is the last one of its session
            return self.decoder.forward(embeds, rotary, LayerAttention(self.pool, tokens, attention, attention))
        rows = to_device(batch.last_rows, device)
        if self.is_routed:
            attend = LayerAttention(self.pool, tokens, attention, attention)
            return self.decoder.forward(embeds, rotary, attend).index_select(0, rows)
        of_last_rows = self.backend.plan(batch.of_last_rows(), self.pool)
        attend = LayerAttention(self.pool, tokens, attention, of_last_rows)
        return self.decoder.forward(embeds, rotary, attend, rows)
