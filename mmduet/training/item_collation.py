"""Collate the items of the training data set, of which some may be bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmduet.errors import TrainingError
from mmduet.training.collate import Batch, collate
from mmduet.training.dataset import BadSample, TrainingItem, is_supervised


@dataclass(frozen=True)
class CollatedItems:
    """A batch of the good items with their ids in order, and the bad items. Without a good item, ``batch`` is None."""

    batch: Batch | None
    ids: tuple[str, ...]
    bad: tuple[BadSample, ...] = ()


def collate_items(items: Sequence[TrainingItem | BadSample]) -> CollatedItems:
    """Collate items of any numbers of frames. Raises ``TrainingError`` naming an item without a supervised token."""
    good = [item for item in items if isinstance(item, TrainingItem)]
    bad = tuple(item for item in items if isinstance(item, BadSample))
    for item in good:
        if not is_supervised(item.sequence):
            raise TrainingError(f"sample {item.id} has no supervised token; remove it from the annotations")
    batch = collate([item.sequence for item in good], [item.images for item in good]) if good else None
    return CollatedItems(batch, tuple(item.id for item in good), bad)
