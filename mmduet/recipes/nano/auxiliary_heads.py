"""Auxiliary heads that train the LM of nano beside the duet's heads: patch contents, motion, events, query matches.

To recognise that an event has just ended, an LM must compare with earlier frames. To recognise whether it was asked for, it
must read the query from every visual token. The duet heads' few positive labels teach both slowly, so these labels are dense.
The auxiliary heads are dropped after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmduet.duet import IGNORE
from mmduet.model.network import DuetModel
from mmduet.recipes.nano.event_labels import CAPTION_SLOTS, ENDED, KINDS, QUERY_SLOTS
from mmduet.recipes.nano.frame_labels import IDENTITIES
from mmduet.recipes.nano.patch_labels import MOTION_SLOT_SIZES, PAST_SLOTS
from mmduet.training.collate import Batch


def _slot_sizes(slots: Sequence[dict[str, int]]) -> tuple[int, ...]:
    return tuple(1 + max(classes.values()) for classes in slots)


#: Heads that classify at every visual token, by name: the sizes of their slots.
PATCH_HEADS: dict[str, tuple[int, ...]] = {
    "change": (2,),
    "before": _slot_sizes(PAST_SLOTS),
    "motion": MOTION_SLOT_SIZES,
    "asked": (2,),
    "named": _slot_sizes(QUERY_SLOTS),
    "role": (3,),
}
#: Heads that classify at every frame's last token.
FRAME_HEADS: dict[str, tuple[int, ...]] = {
    "happening": (ENDED + len(KINDS),),
    "told": _slot_sizes(CAPTION_SLOTS),
    "wanted": (2,),
}
REPEATED = "named"  # its labels are given once per frame and hold for each of the frame's visual tokens
INVENTORY = "inventory"  # independent yes/no labels at every frame's last token
#: Every head and its label in ``Batch.auxiliary``. Names and order are those of saved training states: do not change them.
LABEL_OF = {
    "change": "changes",
    "before": "before",
    "motion": "motion",
    INVENTORY: INVENTORY,
    "asked": "query_matches",
    "named": "query_classes",
    "happening": "event_stages",
    "role": "roles",
    "told": "caption_classes",
    "wanted": "matches_query",
}


class AuxiliaryHeads(nn.Module):
    """The duet model and the auxiliary heads, one submodule for each name in ``LABEL_OF``."""

    def __init__(self, model: DuetModel) -> None:
        super().__init__()
        width = model.config.text.hidden_size
        self.model = model
        sizes = {**PATCH_HEADS, **FRAME_HEADS, INVENTORY: (2 * len(IDENTITIES),)}
        for name in LABEL_OF:
            self.add_module(name, nn.Linear(width, sum(sizes[name])))

    def losses(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of every head that has labels, from the batch's hidden states [B, T, D]."""
        if not batch.auxiliary:
            return {}
        patches = hidden[batch.is_frame]  # [B * F * K, D]
        ends = hidden[torch.arange(len(hidden), device=hidden.device)[:, None], batch.frame_ends].flatten(
            0, 1
        )  # [B * F, D]
        losses = {name: self._loss(name, patches, ends, batch.auxiliary[label]) for name, label in LABEL_OF.items()}
        return {name: loss for name, loss in losses.items() if loss is not None}

    def _loss(self, name: str, patches: Tensor, ends: Tensor, labels: Tensor) -> Tensor | None:
        head = self.get_submodule(name)
        if name == INVENTORY:
            return _multilabel_loss(head(ends), labels.flatten(0, 1).flatten(1))
        if name in FRAME_HEADS:
            sizes = FRAME_HEADS[name]
            return _loss(head(ends).split(list(sizes), dim=-1), labels.reshape(-1, len(sizes)))
        sizes = PATCH_HEADS[name]
        labels = labels.reshape(-1, len(sizes))
        if name == REPEATED:
            labels = labels.repeat_interleave(len(patches) // len(ends), dim=0)
        return _loss(head(patches).split(list(sizes), dim=-1), labels)


def _loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor | None:
    """Return the sum of the slots' mean cross-entropies over labelled rows; None if nothing is labelled.

    ``logits`` are [N, C] for each slot, ``labels`` [N, slots].
    """
    parts = []
    for slot, label in zip(logits, labels.T, strict=True):
        known = label != IGNORE
        if known.any():
            parts.append(cross_entropy(slot[known].float(), label[known]))
    return torch.stack(parts).sum() if parts else None


def _multilabel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over labelled entries, both [N, C]. The present inventory is always labelled."""
    known = labels != IGNORE
    return binary_cross_entropy_with_logits(logits[known].float(), labels[known].float())
