"""The training loss: next-token cross-entropy on replies, plus cross-entropy of both heads on frames.

Source: MMDuet §3.3; weights 1 and 1. A part without labels in a batch is left out of the loss instead of counting as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmduet.duet import IGNORE
from mmduet.errors import TrainingError
from mmduet.model.network import HEADS, DuetModel
from mmduet.model.preprocess import normalize_images
from mmduet.training.branch_mask import BranchMask
from mmduet.training.collate import Batch
from mmduet.training.head_losses import HeadLossOptions, head_loss
from mmduet.training.progress_metrics import HeadStatistics


@dataclass(frozen=True)
class Losses:
    """The weighted sum to minimise, and the unweighted value of each part that has labels."""

    total: Tensor
    components: dict[str, float]


def combine(parts: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Losses:
    """Return the weighted sum of the parts (default weight 1). Raise ``TrainingError`` if there is no part."""
    if not parts:
        raise TrainingError("the batch has no labels; check that the times of the annotations lie inside their videos")
    weighted = [(weights or {}).get(name, 1.0) * part for name, part in parts.items()]
    return Losses(torch.stack(weighted).sum(), {k: float(v.detach()) for k, v in parts.items()})


def duet_parts(
    model: DuetModel,
    batch: Batch,
    hidden: Tensor,
    options: HeadLossOptions | None = None,
    statistics: HeadStatistics | None = None,
) -> dict[str, Tensor]:
    """Return the losses of the language head and of both heads, from hidden states [B, T, D].

    ``options`` None is the plain cross-entropy of the heads. Their scores and labels are added to ``statistics``.
    """
    parts: dict[str, Tensor] = {}
    learned = batch.targets != IGNORE
    if learned.any():
        parts["lm"] = cross_entropy(model.lm_head(hidden[learned]).float(), batch.targets[learned])
    rows = torch.arange(hidden.shape[0], device=hidden.device)[:, None]
    at_frames = hidden[rows, batch.frame_ends]  # [B, F, D]
    for name in HEADS:
        target: Tensor = getattr(batch, name)
        labelled = target != IGNORE
        if labelled.any():
            logits = model.heads[name](at_frames[labelled]).float()
            parts[name] = head_loss(name, logits, target, batch.frame_times, options)
            if statistics is not None:
                statistics.add(name, logits.detach().softmax(-1)[:, 1].cpu(), target[labelled].cpu())
    return parts


def forward_hidden(model: DuetModel, batch: Batch) -> Tensor:
    """Compute final-norm hidden states [B, T, D] of a batch, which must be on the device of the model.

    A batch with a ``branch_mask`` needs a language model to which ``use_branch_attention`` has been applied.
    Raise ``TrainingError`` for samples with more tokens than the model has positions.
    """
    longest, max_positions = int(batch.positions.max()) + 1, model.config.text.max_positions
    if longest > max_positions:
        raise TrainingError(
            f"a sample has {longest} tokens, but the model has {max_positions} positions; use fewer frames per sample"
        )
    visual = batch.visual.flatten(0, 1) if batch.has_frame is None else batch.visual[batch.has_frame]
    features = (
        model.tower(normalize_images(visual)) if visual.dtype == torch.uint8 else visual
    )  # [N, P, V]; N is B * F without padding
    tokens = model.projector(features)  # [N, K, D]
    embeds = model.embed_tokens(batch.ids)
    embeds = embeds.masked_scatter(batch.is_frame[..., None], tokens.to(embeds.dtype))
    hidden: Tensor = model.lm(
        inputs_embeds=embeds,
        attention_mask={"full_attention": _attention_mask(batch, embeds)},
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    return hidden


def _attention_mask(batch: Batch, like: Tensor) -> Tensor | BranchMask:
    """Return the batch's branch mask, or its boolean mask as additive scores, computed once instead of in every layer."""
    if batch.branch_mask is not None:
        return batch.branch_mask
    if batch.mask is None:
        raise TrainingError("the batch has no attention mask; collate it with dense_mask or keep its branch_mask")
    return torch.zeros(batch.mask.shape, dtype=like.dtype, device=batch.mask.device).masked_fill_(
        ~batch.mask, float("-inf")
    )
