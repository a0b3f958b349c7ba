"""Causal attention over one packed row of sequences, in place of an engine's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from device_option import device
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class CausalAttention:
    """Attends within sequences of the given lengths. ``rows`` are the rows whose queries the last layer passes."""

    def __init__(self, lengths: Sequence[int], rows: Tensor | None = None) -> None:
        owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        mask = (owner[:, None] == owner[None]) & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
        self.mask, self.rows = mask.to(device()), rows
        self.query_counts: list[int] = []

    def __call__(self, layer: int, queries: Tensor, keys_values: Tensor, last: bool) -> Tensor:
        self.query_counts.append(len(queries))
        assert layer == len(self.query_counts) - 1
        mask = self.mask[self.rows] if last else self.mask
        keys, values = keys_values.transpose(0, 2).transpose(0, 1)  # each [kv_heads, N, head_dim]
        heads = scaled_dot_product_attention(
            queries.transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, enable_gqa=True
        )
        return heads[0].transpose(0, 1).flatten(1)
