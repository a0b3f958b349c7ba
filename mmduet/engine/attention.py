"""Packed attention over the slots of many sessions, through Transformers' cache and attention interfaces.

A step is one row [1, N] with the new tokens of all sessions. Linear layers process the whole row. Only here each slice of the
row attends to the keys of its own session. The slices are passed as an argument; no state is attached to modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from mmduet.engine.kv_cache import Slot

PACKED_ATTENTION = "mmduet_packed"


@dataclass(frozen=True)
class SequenceSlice:
    """Tokens [begin, begin + count) of the row, to be appended to ``slot``."""

    slot: Slot
    begin: int
    count: int


class StepCache:
    """The cache object of one step for Transformers: writes new keys and values to their slots."""

    is_compileable = False

    def __init__(self, slices: Sequence[SequenceSlice]) -> None:
        self.slices = slices
        self.masks = [_causal_mask(s) for s in slices]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values [1, kv_heads, N, head_dim] of a layer to the slots, and return them unchanged."""
        for s in self.slices:
            rows = slice(s.begin, s.begin + s.count)
            s.slot.write(layer, keys[0, :, rows], values[0, :, rows])
        return keys, values

    def get_seq_length(self, *_: Any) -> int:
        """Return 0: positions are passed explicitly."""
        return 0

    def positions(self) -> Tensor:
        """Return position ids [1, N]: indices in the slots."""
        device = self.slices[0].slot.keys.device
        return torch.cat([torch.arange(s.slot.end, s.slot.end + s.count, device=device) for s in self.slices])[None]


def _causal_mask(new: SequenceSlice) -> Tensor | None:
    """Return which keys each new token may attend to, bool [count, length + count]. None: all, for a single token."""
    if new.count == 1:
        return None
    past = new.slot.length
    return torch.ones(new.count, past + new.count, dtype=torch.bool, device=new.slot.keys.device).tril(past)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step_cache: StepCache,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute outputs [1, N, heads, head_dim] for queries [1, heads, N, head_dim], slice by slice."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    outputs = []
    for s, mask in zip(step_cache.slices, step_cache.masks, strict=True):
        keys, values = s.slot.view(layer, s.count)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, s.begin : s.begin + s.count], keys[None], values[None],
                attn_mask=mask, scale=kwargs["scaling"], enable_gqa=True,
            )
        )  # fmt: skip
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def use_packed_attention(lm: PreTrainedModel) -> None:
    """Make ``lm`` use ``packed_attention``. Its forward then requires ``step_cache``."""
    AttentionInterface.register(PACKED_ATTENTION, packed_attention)
    lm.config._attn_implementation = PACKED_ATTENTION


def forward_packed(lm: PreTrainedModel, embeds: Tensor, slices: Sequence[SequenceSlice]) -> Tensor:
    """Compute final-norm hidden states [N, D] for embeddings [N, D] of a packed row. Write keys and values to the slots."""
    cache = StepCache(slices)
    hidden: Tensor = lm(
        inputs_embeds=embeds[None],
        position_ids=cache.positions(),
        past_key_values=cache,
        attention_mask={"full_attention": None},
        use_cache=True,
        step_cache=cache,
    ).last_hidden_state
    return hidden[0]
