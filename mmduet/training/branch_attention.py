"""Attention under a ``BranchMask``: in blocks of queries on CPUs, with FlexAttention on CUDA.

Neither builds a matrix of T x T elements for long sequences. FlexAttention has no backward pass on CPUs (PyTorch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from mmduet.training.attention import QUERY_ROWS, float32_attention
from mmduet.training.branch_mask import MAX_DENSE_TOKENS, BranchMask

ATTENTION_NAME = "mmduet_branches"


def use_branch_attention(
    model: PreTrainedModel, query_rows: int = QUERY_ROWS, max_dense_tokens: int = MAX_DENSE_TOKENS
) -> None:
    """Make ``model`` accept a ``BranchMask`` as attention mask.

    On a CPU, longer sequences than ``max_dense_tokens`` are computed ``query_rows`` queries at a time, and once more in the
    backward pass instead of keeping their masks.
    """
    name = f"{ATTENTION_NAME}_{query_rows}_{max_dense_tokens}"  # Transformers looks functions up by name
    AttentionInterface.register(
        name, partial(branch_attention, query_rows=query_rows, max_dense_tokens=max_dense_tokens)
    )
    model.set_attn_implementation(name)


def branch_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BranchMask | Tensor | None,
    *,
    scaling: float | None = None,
    query_rows: int = QUERY_ROWS,
    max_dense_tokens: int = MAX_DENSE_TOKENS,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend with queries [B, heads, T, head_dim] to keys and values [B, kv_heads, T, head_dim]; the output is
    [B, T, heads, head_dim].

    A tensor as mask is handled as ``float32_attention`` does.
    """
    if not isinstance(attention_mask, BranchMask):
        return float32_attention(module, query, key, value, attention_mask, scaling=scaling, query_rows=query_rows)
    if query.is_cuda:
        return flex_branch_attention(query, key, value, attention_mask, scaling, _compiled_flex_attention()), None
    if attention_mask.size <= max_dense_tokens:
        mask = attention_mask.additive
        return float32_attention(module, query, key, value, mask, scaling=scaling, query_rows=query_rows)
    output: Tensor = _BlockwiseAttention.apply(  # type: ignore[no-untyped-call]
        query.float(), key.float(), value.float(), attention_mask, scaling, query_rows
    )
    return output.transpose(1, 2), None


def flex_branch_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: BranchMask, scaling: float | None, kernel: Callable[..., Tensor]
) -> Tensor:
    """Attend with ``kernel``, FlexAttention or a compiled version of it; the output is [B, T, heads, head_dim]."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    output = kernel(query, key, value, block_mask=mask.flex_block_mask, scale=scaling, enable_gqa=True)
    return output.transpose(1, 2)


@cache
def _compiled_flex_attention() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


class _BlockwiseAttention(torch.autograd.Function):
    """Attention in float32 that keeps queries, keys and values for the backward pass, but neither masks nor outputs."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: BranchMask,
        scaling: float | None,
        query_rows: int,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.settings = mask, scaling, query_rows
        blocks = _blocks(mask.size, query_rows)
        return torch.cat([_attend(*_slices(query, key, value, b), mask, scaling, b) for b in blocks], dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        mask, scaling, query_rows = ctx.settings
        by_query, by_key, by_value = (torch.zeros_like(tensor) for tensor in (query, key, value))
        for first, last in _blocks(mask.size, query_rows):
            q, k, v = (x.detach().requires_grad_() for x in _slices(query, key, value, (first, last)))
            with torch.enable_grad():
                output = _attend(q, k, v, mask, scaling, (first, last))
            found = torch.autograd.grad(output, (q, k, v), gradient[:, :, first:last])
            by_query[:, :, first:last] = found[0]
            by_key[:, :, :last] += found[1]
            by_value[:, :, :last] += found[2]
        return by_query, by_key, by_value, None, None, None


def _blocks(size: int, rows: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + rows, size)) for first in range(0, size, rows))


def _slices(query: Tensor, key: Tensor, value: Tensor, block: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries of a block, and the keys and values that they may attend to."""
    first, last = block
    return query[:, :, first:last], key[:, :, :last], value[:, :, :last]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: BranchMask, scaling: float | None, block: tuple[int, int]
) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    with torch.autocast(query.device.type, enabled=False):
        return scaled_dot_product_attention(query, key, value, attn_mask=mask.block(*block), scale=scaling)
