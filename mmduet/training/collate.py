"""Collate training sequences and their visual input into one batch of tensors; pad, never truncate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.duet import IGNORE
from mmduet.training.branch_mask import BranchMask
from mmduet.training.sequence import FRAME_TOKEN, NEVER, TrainingSequence

Ints = NDArray[np.int64]
#: Auxiliary labels of one sample by name; ``IGNORE`` marks positions without a label. The recipe defines names and shapes.
Labels = Mapping[str, Ints]


@dataclass
class Batch:
    """B samples of F frames and at most T tokens."""

    visual: Tensor  # letterboxed images uint8 [B, F, S, S, 3], or features of a frozen tower [B, F, P, V]
    ids: Tensor  # [B, T]; frame tokens hold 0
    is_frame: Tensor  # bool [B, T]
    positions: Tensor  # [B, T]
    mask: Tensor | None  # bool [B, 1, T, T]; None: ``branch_mask`` stands for it
    targets: Tensor  # [B, T]
    frame_ends: Tensor  # [B, F]
    informative: Tensor  # [B, F]
    relevance: Tensor  # [B, F]
    auxiliary: dict[str, Tensor] = field(default_factory=dict)  # labels of a LabelProvider, each [B, ...]
    branch_mask: BranchMask | None = None
    frame_times: Tensor | None = None  # seconds [B, F]; None: unknown

    def to(self, device: torch.device) -> Batch:
        """Return the batch with all tensors on ``device``."""
        present = (each.name for each in fields(self) if getattr(self, each.name) is not None)
        tensors = {name: getattr(self, name).to(device) for name in present if name != "auxiliary"}
        return replace(self, **tensors, auxiliary={name: labels.to(device) for name, labels in self.auxiliary.items()})


def collate(
    sequences: Sequence[TrainingSequence],
    visual: Sequence[Tensor],
    auxiliary: Sequence[Labels] = (),
    *,
    dense_mask: bool = True,
) -> Batch:
    """Collate samples that have the same number of frames. Labels of padding are ``IGNORE``.

    Without ``dense_mask``, the batch has a ``branch_mask`` in place of the matrix of T x T elements.
    """
    size = max(sequence.size for sequence in sequences)
    size += -size % 16  # a few shapes instead of many: matrix products are faster

    def pad(name: str, fill: int) -> Tensor:
        rows = np.full((len(sequences), size), fill)
        for row, sequence in zip(rows, sequences, strict=True):
            row[: sequence.size] = getattr(sequence, name)
        return torch.from_numpy(rows)

    ids = pad("ids", 0)
    is_frame = ids == FRAME_TOKEN
    branch_mask = BranchMask(
        pad("limits", -1).int(),
        pad("branches", -1).int(),
        pad("visible_from_frame", -1).int(),
        pad("evicted_at_frame", NEVER).int(),
    )
    return Batch(
        visual=torch.stack(list(visual)),
        ids=ids.masked_fill(is_frame, 0),
        is_frame=is_frame,
        positions=pad("positions", 0),
        mask=branch_mask.dense() if dense_mask else None,
        targets=pad("targets", IGNORE),
        frame_ends=torch.tensor([x.frame_ends for x in sequences]),
        informative=torch.tensor([x.informative for x in sequences]),
        relevance=torch.tensor([x.relevance for x in sequences]),
        auxiliary=_stack(auxiliary),
        branch_mask=None if dense_mask else branch_mask,
        frame_times=_frame_times(sequences),
    )


def _stack(auxiliary: Sequence[Labels]) -> dict[str, Tensor]:
    if not auxiliary:
        return {}
    return {name: torch.from_numpy(np.stack([labels[name] for labels in auxiliary])) for name in auxiliary[0]}


def _frame_times(sequences: Sequence[TrainingSequence]) -> Tensor | None:
    """Return the times of all frames [B, F], 0 for padding; None if a sequence does not know them."""
    if any(len(x.frame_times) != len(x.frame_ends) for x in sequences):
        return None
    times = np.zeros((len(sequences), max(len(x.frame_times) for x in sequences)), np.float32)
    for row, sequence in zip(times, sequences, strict=True):
        row[: len(sequence.frame_times)] = sequence.frame_times
    return torch.from_numpy(times)


def build_attention_mask(
    limits: Tensor, branches: Tensor, visible_from_frame: Tensor, evicted_at_frame: Tensor
) -> Tensor:
    """Return which token may attend to which, bool [B, T, T], from four of ``TrainingSequence``'s lists, each [B, T]."""
    # int32 takes half the time of int64
    return BranchMask(limits.int(), branches.int(), visible_from_frame.int(), evicted_at_frame.int()).dense()[:, 0]
