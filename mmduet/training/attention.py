"""Attention outside autocast: on CPUs, PyTorch's fused kernel is slower in bfloat16 than in float32, above all backwards.

Measured on two Zen 4 cores, forwards and backwards: 48 rows of 160 tokens, 4 heads of 48, 87 ms in bfloat16, 38 in float32;
128 pictures of 64 patches, 4 heads of 32, 58 ms and 14.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

NAME = "mmduet_float32"
ROWS = 192  # queries at a time: few enough to leave out most of what lies ahead of them, enough to keep the kernel busy


def float32_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Queries [B, heads, T, head_dim], keys and values [B, kv_heads, T, head_dim] to outputs [B, T, heads, head_dim].

    A mask [B, 1, T, T] must let no token see one that stands after it: keys ahead of a stretch of queries are not looked at, a
    quarter to a third of all time for samples of 400 to 900 tokens. Without a mask every token sees every other.
    """
    shared = query.shape[1] // key.shape[1]
    key, value = (x.float().repeat_interleave(shared, dim=1) for x in (key, value))
    with torch.autocast(query.device.type, enabled=False):
        output = _attended(query.float(), key, value, attention_mask, scaling)
    return output.transpose(1, 2), None


def _attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    if mask is None:
        return scaled_dot_product_attention(query, key, value, scale=scale)
    size, stretches = query.shape[2], []
    for first in range(0, size, ROWS):
        last = min(first + ROWS, size)
        stretches.append(
            scaled_dot_product_attention(
                query[:, :, first:last],
                key[:, :, :last],
                value[:, :, :last],
                attn_mask=mask[:, :, first:last, :last],
                scale=scale,
            )
        )
    return torch.cat(stretches, dim=2)


def use_float32_attention(model: PreTrainedModel) -> None:
    """Let ``model`` attend by this function from now on."""
    AttentionInterface.register(NAME, float32_attention)
    model.set_attn_implementation(NAME)
