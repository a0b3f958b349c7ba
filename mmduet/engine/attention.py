"""Attention of one packed row over many sessions' slots, through Transformers' cache and attention registry.

A step is one row [1, N] of every session's new tokens. Linear layers see the whole row; here, and only here, each stretch
of the row meets its own session's keys. Sessions come in as an argument; nothing is hung on a module.
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

NAME = "mmduet_packed"


@dataclass(frozen=True)
class SequenceSlice:
    """The tokens [begin, begin + count) of the row, which go to the end of ``slot``."""

    slot: Slot
    begin: int
    count: int


class StepCache:
    """What Transformers takes for a cache during one step: writes new keys to their slots, remembers no more."""

    is_compileable = False

    def __init__(self, stretches: Sequence[SequenceSlice]) -> None:
        self.stretches = stretches
        self.masks = [_causal(s) for s in stretches]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [1, kv_heads, N, head_dim] of a layer; they go to the slots and back to the caller unchanged."""
        for s in self.stretches:
            run = slice(s.begin, s.begin + s.count)
            s.slot.write(layer, keys[0, :, run], values[0, :, run])
        return keys, values

    def get_seq_length(self, *_: Any) -> int:
        """Positions are given explicitly; the row itself has no past."""
        return 0

    def positions(self) -> Tensor:
        """Position ids [1, N]: places in the slots."""
        device = self.stretches[0].slot.keys.device
        return torch.cat([torch.arange(s.slot.end, s.slot.end + s.count, device=device) for s in self.stretches])[None]


def _causal(stretch: SequenceSlice) -> Tensor | None:
    """Who may see whom [count, length + count]; None where a single token sees everything."""
    if stretch.count == 1:
        return None
    past = stretch.slot.length
    device = stretch.slot.keys.device
    return torch.ones(stretch.count, past + stretch.count, dtype=torch.bool, device=device).tril(past)


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
    """Queries [1, heads, N, head_dim] to outputs [1, N, heads, head_dim], stretch by stretch."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    outputs = []
    for s, mask in zip(step_cache.stretches, step_cache.masks, strict=True):
        keys, values = s.slot.view(layer, s.count)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, s.begin : s.begin + s.count], keys[None], values[None],
                attn_mask=mask, scale=kwargs["scaling"], enable_gqa=True,
            )
        )  # fmt: skip
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def use_packed_attention(lm: PreTrainedModel) -> None:
    """Make ``lm`` attend through ``packed_attention``; its forward then needs ``step_cache``."""
    AttentionInterface.register(NAME, packed_attention)
    lm.config._attn_implementation = NAME


def forward_packed(lm: PreTrainedModel, embeds: Tensor, stretches: Sequence[SequenceSlice]) -> Tensor:
    """Embeddings [N, D] of a packed row to final-norm hidden states [N, D]; keys and values are in the slots afterwards."""
    cache = StepCache(stretches)
    hidden: Tensor = lm(
        inputs_embeds=embeds[None],
        position_ids=cache.positions(),
        past_key_values=cache,
        attention_mask={"full_attention": None},
        use_cache=True,
        step_cache=cache,
    ).last_hidden_state
    return hidden[0]
