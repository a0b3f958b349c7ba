"""Attention outside autocast: on CPUs, PyTorch's fused kernel is slower in bfloat16 than in float32, above all backward.

Measured on two Zen 4 cores, forward and backward: 48 rows of 160 tokens, 4 heads of 48: 87 ms in bfloat16, 38 ms in float32;
128 images of 64 patches, 4 heads of 32: 58 ms and 14 ms.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

ATTENTION_NAME = "mmduet_float32"
QUERY_ROWS = 192  # queries per call of the kernel: few enough to skip most later keys, enough to keep the kernel busy


def float32_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    query_rows: int = QUERY_ROWS,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend with queries [B, heads, T, head_dim] to keys and values [B, kv_heads, T, head_dim].

    A mask [B, 1, T, T] must be causal: keys after the last of ``query_rows`` queries are skipped, which saves a quarter to a
    third of the time for samples of 400 to 900 tokens. Without a mask every token attends to every other.
    """
    shared = query.shape[1] // key.shape[1]
    key, value = (x.float().repeat_interleave(shared, dim=1) for x in (key, value))
    with torch.autocast(query.device.type, enabled=False):
        output = _attend(query.float(), key, value, attention_mask, scaling, query_rows)
    return output.transpose(1, 2), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, query_rows: int
) -> Tensor:
    if mask is None:
        return scaled_dot_product_attention(query, key, value, scale=scale)
    size, outputs = query.shape[2], []
    for first in range(0, size, query_rows):
        last = min(first + query_rows, size)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, first:last],
                key[:, :, :last],
                value[:, :, :last],
                attn_mask=mask[:, :, first:last, :last],
                scale=scale,
            )
        )
    return torch.cat(outputs, dim=2)


def use_float32_attention(model: PreTrainedModel, query_rows: int = QUERY_ROWS) -> None:
    """Make ``model`` compute attention with ``float32_attention``, ``query_rows`` queries at a time."""
    name = f"{ATTENTION_NAME}_{query_rows}"  # Transformers looks functions up by name, in all models alike
    AttentionInterface.register(name, partial(float32_attention, query_rows=query_rows))
    model.set_attn_implementation(name)
