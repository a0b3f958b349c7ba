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
    has_frame: Tensor | None = None  # bool [B, F], false where a frame is padding; None: nowhere

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
    """Collate samples. Labels of padding are ``IGNORE``; padded frames are black and end at token 0.

    Samples with auxiliary labels must have the same number of frames. Without ``dense_mask``, the batch has a ``branch_mask``
    in place of the matrix of T x T elements.
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
    counts = torch.tensor([len(sequence.frame_ends) for sequence in sequences])
    frames = int(counts.max())

    def pad_frames(name: str, fill: int) -> Tensor:
        rows = (getattr(sequence, name) for sequence in sequences)
        return torch.tensor([[*row, *[fill] * (frames - len(row))] for row in rows])

    return Batch(
        visual=_stack_padded(visual, frames),
        ids=ids.masked_fill(is_frame, 0),
        is_frame=is_frame,
        positions=pad("positions", 0),
        mask=branch_mask.dense() if dense_mask else None,
        targets=pad("targets", IGNORE),
        frame_ends=pad_frames("frame_ends", 0),
        informative=pad_frames("informative", IGNORE),
        relevance=pad_frames("relevance", IGNORE),
        auxiliary=_stack(auxiliary),
        branch_mask=None if dense_mask else branch_mask,
        frame_times=_frame_times(sequences),
        has_frame=None if (counts == frames).all() else torch.arange(frames) < counts[:, None],
    )


def _stack_padded(visual: Sequence[Tensor], frames: int) -> Tensor:
    """Stack tensors [F_i, ...] to [B, frames, ...]; what is missing is 0."""
    if all(len(each) == frames for each in visual):
        return torch.stack(list(visual))
    stacked = visual[0].new_zeros(len(visual), frames, *visual[0].shape[1:])
    for row, each in zip(stacked, visual, strict=True):
        row[: len(each)] = each
    return stacked


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
