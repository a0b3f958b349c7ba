"""Auxiliary heads read the right tokens and labels: losses equal sums computed row by row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from mmduet.duet import IGNORE
from mmduet.model.presets import random_config, random_model
from mmduet.recipes.nano.auxiliary_heads import AuxiliaryHeads
from mmduet.recipes.nano.event_labels import CAPTION_SLOTS, QUERY_SLOTS
from mmduet.recipes.nano.patch_labels import MOTION_SLOT_SIZES, PAST_SLOTS
from mmduet.training.collate import Batch

B, F, K, D = 2, 3, 4, 48
PATCHES = B * F * K
LABEL_OF = {
    "motion": "motion", "role": "roles", "asked": "query_matches", "before": "before", "change": "changes",
    "happening": "event_stages", "named": "query_classes", "told": "caption_classes", "wanted": "matches_query",
}  # fmt: skip
Labels = dict[str, Tensor]
SLOTS = {
    "motion": [3, 3, 3, 3, 2],
    **{
        n: [1 + max(c.values()) for c in s]
        for n, s in (("before", PAST_SLOTS), ("told", CAPTION_SLOTS), ("named", QUERY_SLOTS))
    },
}
PATCH_HEADS = ("asked", "role", "motion", "before", "change", "named")


def hidden_and_batch(labels: Labels) -> tuple[Tensor, Batch]:
    """Each row alternates a text token and K visual tokens; the n-th visual token of the batch is the n-th unit vector."""
    is_frame = torch.tensor([[False, *[True] * K] * F] * B)
    hidden = torch.zeros(B, F * (K + 1), D)
    hidden[is_frame] = torch.eye(D)[:PATCHES]
    hidden[~is_frame] = 100.0  # reading a text token by mistake changes the loss visibly
    nothing = torch.zeros(0)
    ends = torch.tensor([[K, 2 * K + 1, 3 * K + 2]] * B)
    return hidden, Batch(
        nothing, nothing, is_frame, nothing, nothing, nothing, ends, nothing, nothing, auxiliary=labels
    )  # fmt: skip


def make_heads() -> AuxiliaryHeads:
    module = AuxiliaryHeads(random_model(random_config("tiny")))
    for part in (*LABEL_OF, "inventory"):
        head = module.get_submodule(part)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(len(part)))
        torch.nn.init.zeros_(head.bias)
    return module


def random_labels(high: int, *shape: int) -> Tensor:
    labels = torch.randint(0, high, shape, generator=torch.Generator().manual_seed(high))
    return labels.masked_fill(torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3, IGNORE)


def some_labels() -> Labels:
    return {
        "changes": random_labels(2, B, F, K),
        "before": random_labels(6, B, F, K, len(PAST_SLOTS)),
        "motion": random_labels(2, B, F, K, len(MOTION_SLOT_SIZES)),
        "inventory": random_labels(2, B, F, 2, 35),
        "query_matches": random_labels(2, B, F, K),
        "event_stages": random_labels(11, B, F),
        "roles": random_labels(3, B, F, K),
        "caption_classes": random_labels(3, B, F, len(CAPTION_SLOTS)),
        "query_classes": random_labels(6, B, F, len(QUERY_SLOTS)),
        "matches_query": random_labels(2, B, F),
    }


def sum_row_by_row(module: AuxiliaryHeads, part: str, labels: Labels) -> float:
    """Return the loss computed in loops over frames and patches."""
    table = module.get_submodule(part).weight.detach().T  # the n-th unit vector's logits are row n
    slots = SLOTS.get(part, [table.shape[1]])
    total = 0.0
    for s, size in enumerate(slots):
        first, found = sum(slots[:s]), []
        for b in range(B):
            for f in range(F):
                for k in range(K) if part in PATCH_HEADS else [K - 1]:
                    label = labels[LABEL_OF[part]][b, f]
                    label = label[k] if part in ("asked", "before", "change", "motion", "role") else label
                    label = label[s] if part in SLOTS else label
                    if label != IGNORE:
                        row = table[(b * F + f) * K + k, first : first + size]
                        found.append(-float(log_softmax(row, 0)[label]))
        total += sum(found) / len(found)
    return total


@pytest.mark.parametrize("part", LABEL_OF)
def test_a_loss_equals_a_sum_over_frames_and_patches(part: str) -> None:
    module, labels = make_heads(), some_labels()
    losses = module.losses(*hidden_and_batch(labels))
    assert losses.keys() == LABEL_OF.keys() | {"inventory"}
    assert float(losses[part].detach()) == pytest.approx(sum_row_by_row(module, part, labels), rel=1e-4)


def test_head_without_labels_has_no_loss() -> None:
    labels = some_labels()
    for name in ("query_matches", "query_classes"):
        labels[name].fill_(IGNORE)
    assert make_heads().losses(*hidden_and_batch(labels)).keys() == (LABEL_OF.keys() | {"inventory"}) - {
        "asked",
        "named",
    }


def test_inventory_is_predicted_at_frame_ends() -> None:
    module, labels = make_heads(), some_labels()
    loss = module.losses(*hidden_and_batch(labels))["inventory"]
    table, found = module.get_submodule("inventory").weight.detach().T, []
    for b in range(B):
        for f in range(F):
            logits = table[(b * F + f) * K + K - 1].view(2, 35)
            for when in range(2):
                for identity in range(35):
                    label = labels["inventory"][b, f, when, identity]
                    if label != IGNORE:
                        sign = 1.0 if label else -1.0
                        found.append(float(torch.nn.functional.softplus(-sign * logits[when, identity])))
    assert float(loss.detach()) == pytest.approx(sum(found) / len(found), rel=1e-4)


def test_slot_without_labels_does_not_affect_other_slots() -> None:
    labels = some_labels()
    labels["caption_classes"][..., 2:] = IGNORE
    losses = make_heads().losses(*hidden_and_batch(labels))
    assert torch.isfinite(losses["told"])


def test_batch_without_auxiliary_labels_has_no_losses() -> None:
    hidden, batch = hidden_and_batch(some_labels())
    batch.auxiliary = {}
    assert make_heads().losses(hidden, batch) == {}
