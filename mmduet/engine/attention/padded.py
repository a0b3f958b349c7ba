"""Attention over padded batches of sessions with similar shapes, for any device.

The queries of one key head are folded into one batch of rows, so that grouped-query attention needs neither repeated keys nor a
kernel of its own.

``products`` is a variant for bfloat16 on CPUs: where a session has many scores, attention is two matrix products with a softmax
between them, which takes less time than PyTorch's kernel. It is approximate: scores are rounded to bfloat16 before the softmax,
as in the "eager" attention of Transformers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmduet.engine.host_copy import to_device
from mmduet.engine.kv_pool import KVPool
from mmduet.engine.step_batch import Integers, StepBatch

Compute = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]

PRODUCTS_FROM = 200_000
"""Number of a session's scores from which ``products`` takes less time than PyTorch's kernel."""


class _Group:
    """The sessions ``members`` of a step, padded to the same number of queries and of context tokens."""

    def __init__(self, batch: StepBatch, members: Integers, pool: KVPool, compute: Compute) -> None:
        self._pool, self._compute, device = pool, compute, pool.shape.device
        counts, lengths = batch.counts[members], batch.kv_length[members]
        self._sessions, self._queries, self._length = len(members), int(counts.max()), int(lengths.max())
        context_end = batch.kv_begin[members] + lengths
        begin = context_end - self._length  # contexts are aligned at their ends; padding lies before them
        query = np.arange(self._queries) - self._queries  # negative: from the end
        self.valid = (counts[:, None] + query >= 0).ravel()  # [J * q]: queries that are not padding
        rows = np.maximum(batch.offsets[1:][members, None] + query, batch.offsets[:-1][members, None])
        self.rows = rows.ravel()  # [J * q]
        self._rows = to_device(self.rows, device)
        self._mask = self._additive_mask(batch.kv_begin[members], context_end, begin, query)
        self._begin = int(begin[0])
        tokens = np.maximum(begin[:, None] + np.arange(self._length), batch.kv_begin[members, None])
        self._tokens = to_device(tokens.ravel(), device)  # padding repeats a session's own first token

    def _additive_mask(self, first: Integers, end: Integers, begin: Integers, query: Integers) -> Tensor | None:
        """Return 0 where a query may attend and -inf elsewhere, [J or 1, 1, q or groups * q, n]; None: everywhere."""
        tokens = begin[:, None] + np.arange(self._length)  # [J, n]
        allowed = (tokens[:, None] >= first[:, None, None]) & (tokens[:, None] <= (end[:, None] + query)[..., None])
        if allowed.all():
            return None
        if (allowed == allowed[:1]).all():
            allowed = allowed[:1]
        mask = torch.zeros(allowed.shape, dtype=self._pool.shape.dtype)
        mask.masked_fill_(torch.from_numpy(~allowed), -torch.inf)
        return to_device(mask[:, None], self._pool.shape.device)  # [J or 1, 1, q, n]

    def attend(self, layer: int, queries: Tensor, *, all_rows: bool) -> Tensor:
        """Return outputs [J * q, heads, head_dim] for the rows ``rows`` of ``queries`` [N, heads, head_dim]."""
        heads, width = queries.shape[1:]
        kv_heads = self._pool.shape.kv_heads
        chosen = queries if all_rows else queries.index_select(0, self._rows)
        split = chosen.view(self._sessions, self._queries, kv_heads, heads // kv_heads, width)
        by_head = split.permute(0, 2, 3, 1, 4)  # [J, kv_heads, groups, q, head_dim]
        folded = by_head.flatten(2, 3)  # [J, kv_heads, groups * q, head_dim]
        if self._sessions == 1:
            context = self._pool.view(layer, self._begin, self._length)
        else:
            context = self._pool.gather(layer, self._tokens)
        context = context.view(self._sessions, self._length, 2, kv_heads, width).permute(2, 0, 3, 1, 4)
        outputs = self._compute(folded, context[0], context[1], self._folded_mask(heads // kv_heads))
        by_token = outputs.reshape(by_head.shape).permute(0, 3, 1, 2, 4)  # [J, q, kv_heads, groups, head_dim]
        return by_token.reshape(-1, heads, width)

    def _folded_mask(self, groups: int) -> Tensor | None:
        """Return the mask for ``groups`` queries of each token, [J or 1, 1, groups * q, n]."""
        if self._mask is not None and self._mask.shape[2] == self._queries and groups > 1:
            self._mask = self._mask.repeat(1, 1, groups, 1)  # once for all layers
        return self._mask


class PaddedAttention:
    """One attention call for each group of sessions with similar shapes."""

    def __init__(self, batch: StepBatch, pool: KVPool, compute: Compute) -> None:
        self._groups = [_Group(batch, members, pool, compute) for members in _similar(batch)]
        rows = np.concatenate([group.rows for group in self._groups])
        valid = np.concatenate([group.valid for group in self._groups])
        self._in_order = len(rows) == batch.size and bool((rows == np.arange(batch.size)).all())
        order = np.flatnonzero(valid)[np.argsort(rows[valid], kind="stable")]
        self._order = to_device(order, pool.shape.device)

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Return outputs [N, heads, head_dim], see ``Attention``."""
        if self._in_order and len(self._groups) == 1:
            return self._groups[0].attend(layer, queries, all_rows=True)
        outputs = [group.attend(layer, queries, all_rows=False) for group in self._groups]
        return torch.cat(outputs).index_select(0, self._order)


class PaddedBackend:
    """See the module's docstring."""

    name = "padded"

    def plan(self, batch: StepBatch, pool: KVPool) -> PaddedAttention:
        """Prepare the attention of a step."""
        return PaddedAttention(batch, pool, attend_exactly)


class ProductsBackend:
    """See the module's docstring."""

    name = "products"

    def plan(self, batch: StepBatch, pool: KVPool) -> PaddedAttention:
        """Prepare the attention of a step."""
        return PaddedAttention(batch, pool, attend_by_products)


def attend_exactly(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention [J, heads, q, head_dim] of queries over keys and values [J, heads, n, head_dim].

    ``mask`` [J or 1, 1, q, n] is added to the scores.
    """
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def attend_by_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the same as ``attend_exactly``, with scores that are rounded where there are many of them."""
    sessions, heads, rows, width = queries.shape
    length = keys.shape[2]
    if heads * rows * length < PRODUCTS_FROM:  # of one session, so that its result does not depend on the others
        return attend_exactly(queries, keys, values, mask)
    added = (
        queries.new_zeros(()) if mask is None else mask.expand(sessions, heads, rows, length).reshape(-1, rows, length)
    )
    flat = [part.reshape(sessions * heads, -1, width) for part in (queries, keys, values)]
    scores = torch.baddbmm(added, flat[0], flat[1].transpose(1, 2), alpha=width**-0.5)  # [J * heads, q, n]
    return torch.bmm(scores.softmax(-1), flat[2]).view(sessions, heads, rows, width)


def _similar(batch: StepBatch) -> list[Integers]:
    """Group the sessions so that in each group neither queries nor contexts differ by more than a factor of two."""
    groups = defaultdict[tuple[int, int], list[int]](list)
    for index, (count, length) in enumerate(zip(batch.counts.tolist(), batch.kv_length.tolist(), strict=True)):
        groups[(count - 1).bit_length(), (length - 1).bit_length()].append(index)
    return [np.array(members) for members in groups.values()]
