"""Layouts and pictures to one batch of tensors; pads, never truncates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.duet import IGNORE
from mmduet.training.layout import FRAME_TOKEN, NEVER, Layout

Ints = NDArray[np.int64]


class Lessons(NamedTuple):
    """One sample's labels beyond the duet's, of F frames of K visual tokens; ``IGNORE`` where there is none."""

    changes: Ints  # [F, K]
    before: Ints  # [F, K, 4], in the order of ``cells.BEFORE``
    motion: Ints  # [F, K, 5], in the order of ``cells.MOTION``
    inventory: Ints  # [F, 2, 35], each identity in view or not, now and a while ago
    asked: Ints  # [F, K]
    happenings: Ints  # [F]
    roles: Ints  # [F, K]
    told: Ints  # [F, 8], in the order of ``happenings.TOLD``
    named: Ints  # [F, 3], in the order of ``happenings.NAMED``
    wanted: Ints  # [F]


class LessonLabels(NamedTuple):
    """The same for a batch, [B, ...]."""

    changes: Tensor
    before: Tensor
    motion: Tensor
    inventory: Tensor
    asked: Tensor
    happenings: Tensor
    roles: Tensor
    told: Tensor
    named: Tensor
    wanted: Tensor


@dataclass
class Batch:
    """B samples of F frames and at most T tokens."""

    visual: Tensor  # letterboxed pictures uint8 [B, F, S, S, 3], or a frozen tower's features of them [B, F, P, V]
    ids: Tensor  # [B, T]; frame tokens hold 0
    is_frame: Tensor  # bool [B, T]
    positions: Tensor  # [B, T]
    mask: Tensor  # bool [B, 1, T, T]
    targets: Tensor  # [B, T]
    frame_ends: Tensor  # [B, F]
    informative: Tensor  # [B, F]
    relevance: Tensor  # [B, F]
    lessons: LessonLabels | None = None  # where lessons are given beside the duet's own labels


def collate(layouts: Sequence[Layout], visual: Sequence[Tensor], lessons: Sequence[Lessons] = ()) -> Batch:
    """Put samples of equal frame counts together. Labels of padding are ``IGNORE``."""
    size = max(layout.size for layout in layouts)
    size += -size % 16  # a few shapes instead of many: matrix products like it

    def padded(name: str, fill: int) -> Tensor:
        rows = np.full((len(layouts), size), fill)
        for row, layout in zip(rows, layouts, strict=True):
            row[: layout.size] = getattr(layout, name)
        return torch.from_numpy(rows)

    ids = padded("ids", 0)
    is_frame = ids == FRAME_TOKEN
    return Batch(
        visual=torch.stack(list(visual)),
        ids=ids.masked_fill(is_frame, 0),
        is_frame=is_frame,
        positions=padded("positions", 0),
        mask=visibility(
            padded("limits", -1), padded("branches", -1), padded("fed_with", -1), padded("leaves_at", NEVER)
        )[:, None],
        targets=padded("targets", IGNORE),
        frame_ends=torch.tensor([x.frame_ends for x in layouts]),
        informative=torch.tensor([x.informative for x in layouts]),
        relevance=torch.tensor([x.relevance for x in layouts]),
        lessons=LessonLabels(*(torch.from_numpy(np.stack(part)) for part in zip(*lessons, strict=True)))
        if lessons
        else None,
    )


def visibility(limits: Tensor, branches: Tensor, fed_with: Tensor, leaves_at: Tensor) -> Tensor:
    """Who may see whom, bool [B, T, T], from four of ``Layout``'s lists, each [B, T].

    Branch 0 is the main line. Padding (branch -1) sees itself only, so that no row of the softmax is empty.
    """
    limits, branches, fed_with, leaves_at = (x.int() for x in (limits, branches, fed_with, leaves_at))  # half the time
    index = torch.arange(limits.shape[1], dtype=torch.int32)
    causal = index[None, :] <= index[:, None]  # [T, T]
    in_view = leaves_at[:, None, :] > fed_with[:, :, None]
    main = (branches == 0)[:, None, :] & (index <= limits[:, :, None]) & in_view
    own = (branches[:, :, None] == branches[:, None, :]) & (branches > 0)[:, :, None] & causal
    return main | own | torch.eye(len(index), dtype=torch.bool)
