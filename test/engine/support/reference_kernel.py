"""The kernel of the attention backend ``varlen`` in plain PyTorch: it reads the same plan, sequence by sequence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmduet.engine.attention.loop import causal_mask


def reference_kernel(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    longest_query: int,
    longest_key: int,
    used_keys: Tensor | None = None,
) -> Tensor:
    """Compute attention, see ``mmduet.engine.attention.varlen.Kernel``."""
    assert (longest_query, longest_key) == (int(query_offsets.diff().max()), int(key_offsets.diff().max()))
    used = key_offsets.diff() if used_keys is None else used_keys
    assert used.dtype == query_offsets.dtype == key_offsets.dtype == torch.int32
    outputs = []
    for number, length in enumerate(used.tolist()):
        query = queries[query_offsets[number] : query_offsets[number + 1]].transpose(0, 1)
        begin = int(key_offsets[number])
        key, value = (part[begin : begin + length].transpose(0, 1) for part in (keys, values))
        mask = causal_mask(query.shape[1], length, queries.device)
        outputs.append(scaled_dot_product_attention(query, key, value, mask, enable_gqa=True).transpose(0, 1))
    return torch.cat(outputs)
