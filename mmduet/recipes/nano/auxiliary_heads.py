"""The LM's lessons: what is and was here, what does it do, is it what the query names; at frames, who is there, what is told.

To know that something has just ended, an LM must first look back at the frame before; to know whether it was asked for, it
must first read the query from every visual token. The heads' few positive labels teach both slowly. These lessons are dense
and stand beside the duet's own losses; their heads are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmduet.duet import IGNORE
from mmduet.model.network import DuetModel
from mmduet.recipes.nano.event_labels import ENDED, KINDS, NAMED, TOLD
from mmduet.recipes.nano.frame_labels import IDENTITIES
from mmduet.recipes.nano.patch_labels import BEFORE, MOTION
from mmduet.training.collate import Batch


class TimeLessons(nn.Module):
    """The duet model and the lesson heads."""

    def __init__(self, model: DuetModel) -> None:
        super().__init__()
        width = model.config.text.hidden_size
        self.model = model
        self.change = nn.Linear(width, 2)
        self.before = nn.Linear(width, sum(_sizes(BEFORE)))
        self.motion = nn.Linear(width, sum(MOTION))
        self.inventory = nn.Linear(width, 2 * len(IDENTITIES))
        self.asked = nn.Linear(width, 2)
        self.named = nn.Linear(width, sum(_sizes(NAMED)))
        self.happening = nn.Linear(width, ENDED + len(KINDS))
        self.role = nn.Linear(width, 3)
        self.told = nn.Linear(width, sum(_sizes(TOLD)))
        self.wanted = nn.Linear(width, 2)

    def losses(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of the lessons that have labels, from the batch's hidden states [B, T, D]."""
        labels = batch.lessons
        if labels is None:
            return {}
        seen = hidden[batch.is_frame]  # [B * F * K, D]
        ends = hidden[torch.arange(len(hidden))[:, None], batch.frame_ends].flatten(0, 1)  # [B * F, D]
        named = labels.named.flatten(0, 1).repeat_interleave(len(seen) // len(ends), dim=0)  # [B * F * K, 3]
        parts = {
            "change": _loss([self.change(seen)], labels.changes.flatten()[:, None]),
            "before": _loss(self.before(seen).split(_sizes(BEFORE), dim=-1), labels.before.flatten(0, 2)),
            "motion": _loss(self.motion(seen).split(list(MOTION), dim=-1), labels.motion.flatten(0, 2)),
            "inventory": _multilabel(self.inventory(ends), labels.inventory.flatten(0, 1).flatten(1)),
            "asked": _loss([self.asked(seen)], labels.asked.flatten()[:, None]),
            "named": _loss(self.named(seen).split(_sizes(NAMED), dim=-1), named),
            "happening": _loss([self.happening(ends)], labels.happenings.flatten()[:, None]),
            "role": _loss([self.role(seen)], labels.roles.flatten()[:, None]),
            "told": _loss(self.told(ends).split(_sizes(TOLD), dim=-1), labels.told.flatten(0, 1)),
            "wanted": _loss([self.wanted(ends)], labels.wanted.flatten()[:, None]),
        }
        return {name: loss for name, loss in parts.items() if loss is not None}


def _sizes(slots: Sequence[dict[str, int]]) -> list[int]:
    return [1 + max(classes.values()) for classes in slots]


def _loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor | None:
    """The sum of the slots' cross-entropies over the rows that are labelled; None where none is.

    ``logits`` are [N, C] for each slot, ``labels`` [N, slots].
    """
    parts = []
    for slot, label in zip(logits, labels.T, strict=True):
        known = label != IGNORE
        if known.any():
            parts.append(cross_entropy(slot[known].float(), label[known]))
    return torch.stack(parts).sum() if parts else None


def _multilabel(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over what is labelled; both [N, C]. Some label there always is: what is in view now."""
    known = labels != IGNORE
    return binary_cross_entropy_with_logits(logits[known].float(), labels[known].float())
