"""The lesson heads: each reads the right tokens and is held to the right labels, row by row, against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from mmduet.duet import IGNORE
from mmduet.model.presets import random_config, random_model
from mmduet.recipes.nano.auxiliary_heads import TimeLessons
from mmduet.recipes.nano.event_labels import NAMED, TOLD
from mmduet.recipes.nano.patch_labels import BEFORE, MOTION
from mmduet.training.collate import Batch, LessonLabels

B, F, K, D = 2, 3, 4, 48
CELLS = B * F * K
PART = {
    "motion": "motion", "role": "roles",
    "asked": "asked", "before": "before", "change": "changes", "happening": "happenings", "named": "named", "told": "told",
    "wanted": "wanted",
}  # fmt: skip
SLOTS = {
    "motion": [3, 3, 3, 3, 2],
    **{n: [1 + max(c.values()) for c in s] for n, s in (("before", BEFORE), ("told", TOLD), ("named", NAMED))},
}
OF_CELLS = ("asked", "role", "motion", "before", "change", "named")


def hidden_and_batch(labels: LessonLabels) -> tuple[Tensor, Batch]:
    """Each row: a word, K visual tokens, a word, K, a word, K. The n-th visual token of all is the n-th unit vector."""
    is_frame = torch.tensor([[False, *[True] * K] * F] * B)
    hidden = torch.zeros(B, F * (K + 1), D)
    hidden[is_frame] = torch.eye(D)[:CELLS]
    hidden[~is_frame] = 100.0  # a word that is read by mistake shows at once
    nothing = torch.zeros(0)
    ends = torch.tensor([[K, 2 * K + 1, 3 * K + 2]] * B)
    return hidden, Batch(
        nothing, nothing, is_frame, nothing, nothing, nothing, ends, nothing, nothing, lessons=labels
    )  # fmt: skip


def lessons() -> TimeLessons:
    module = TimeLessons(random_model(random_config("tiny")))
    for part in (*PART, "inventory"):
        head = getattr(module, part)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(len(part)))
        torch.nn.init.zeros_(head.bias)
    return module


def labelled(high: int, *shape: int) -> Tensor:
    labels = torch.randint(0, high, shape, generator=torch.Generator().manual_seed(high))
    return labels.masked_fill(torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3, IGNORE)


def some_labels() -> LessonLabels:
    return LessonLabels(
        changes=labelled(2, B, F, K),
        before=labelled(6, B, F, K, len(BEFORE)),
        motion=labelled(2, B, F, K, len(MOTION)),
        inventory=labelled(2, B, F, 2, 35),
        asked=labelled(2, B, F, K),
        happenings=labelled(11, B, F),
        roles=labelled(3, B, F, K),
        told=labelled(3, B, F, len(TOLD)),
        named=labelled(6, B, F, len(NAMED)),
        wanted=labelled(2, B, F),
    )


def by_hand(module: TimeLessons, part: str, labels: LessonLabels) -> float:
    """Frame by frame and cell by cell, in loops."""
    table = getattr(module, part).weight.detach().T  # the n-th unit vector's logits are row n
    slots = SLOTS.get(part, [table.shape[1]])
    total = 0.0
    for s, size in enumerate(slots):
        first, found = sum(slots[:s]), []
        for b in range(B):
            for f in range(F):
                for k in range(K) if part in OF_CELLS else [K - 1]:
                    label = getattr(labels, PART[part])[b, f]
                    label = label[k] if part in ("asked", "before", "change", "motion", "role") else label
                    label = label[s] if part in SLOTS else label
                    if label != IGNORE:
                        row = table[(b * F + f) * K + k, first : first + size]
                        found.append(-float(log_softmax(row, 0)[label]))
        total += sum(found) / len(found)
    return total


@pytest.mark.parametrize("part", PART)
def test_every_lesson_is_the_sum_done_by_hand(part: str) -> None:
    module, labels = lessons(), some_labels()
    losses = module.losses(*hidden_and_batch(labels))
    assert losses.keys() == PART.keys() | {"inventory"}
    assert float(losses[part].detach()) == pytest.approx(by_hand(module, part, labels), rel=1e-4)


def test_a_lesson_without_labels_is_absent() -> None:
    labels = some_labels()
    labels = labels._replace(asked=torch.full_like(labels.asked, IGNORE), named=torch.full_like(labels.named, IGNORE))
    assert lessons().losses(*hidden_and_batch(labels)).keys() == (PART.keys() | {"inventory"}) - {"asked", "named"}


def test_the_inventory_is_read_at_the_ends_of_frames() -> None:
    module, labels = lessons(), some_labels()
    loss = module.losses(*hidden_and_batch(labels))["inventory"]
    table, found = module.inventory.weight.detach().T, []
    for b in range(B):
        for f in range(F):
            logits = table[(b * F + f) * K + K - 1].view(2, 35)
            for when in range(2):
                for identity in range(35):
                    label = labels.inventory[b, f, when, identity]
                    if label != IGNORE:
                        sign = 1.0 if label else -1.0
                        found.append(float(torch.nn.functional.softplus(-sign * logits[when, identity])))
    assert float(loss.detach()) == pytest.approx(sum(found) / len(found), rel=1e-4)


def test_one_slot_without_labels_leaves_the_others() -> None:
    labels = some_labels()
    labels.told[..., 2:] = IGNORE
    losses = lessons().losses(*hidden_and_batch(labels))
    assert torch.isfinite(losses["told"])


def test_without_lessons_there_are_no_losses() -> None:
    hidden, batch = hidden_and_batch(some_labels())
    batch.lessons = None
    assert lessons().losses(hidden, batch) == {}
