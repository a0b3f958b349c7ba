"""Layouts and pixels to one batch of tensors; pads, never truncates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.duet import IGNORE
from mmduet.training.layout import FRAME_TOKEN, Layout


@dataclass
class Batch:
    """B samples of F frames and at most T tokens."""

    pixels: Tensor  # uint8 [B, F, S, S, 3], letterboxed
    ids: Tensor  # [B, T]; frame tokens hold 0
    is_frame: Tensor  # bool [B, T]
    positions: Tensor  # [B, T]
    mask: Tensor  # bool [B, 1, T, T]
    targets: Tensor  # [B, T]
    frame_ends: Tensor  # [B, F]
    informative: Tensor  # [B, F]
    relevance: Tensor  # [B, F]


def collate(layouts: Sequence[Layout], pixels: Sequence[NDArray[np.uint8]]) -> Batch:
    """Put samples of equal frame counts together. Labels of padding are ``IGNORE``."""
    size = max(layout.size for layout in layouts)
    size += -size % 16  # a few shapes instead of many: matrix products like it

    def padded(name: str, fill: int) -> Tensor:
        rows = [np.pad(np.asarray(getattr(x, name)), (0, size - x.size), constant_values=fill) for x in layouts]
        return torch.from_numpy(np.stack(rows))

    ids = padded("ids", 0)
    is_frame = ids == FRAME_TOKEN
    return Batch(
        pixels=torch.from_numpy(np.stack(pixels)),
        ids=ids.masked_fill(is_frame, 0),
        is_frame=is_frame,
        positions=padded("positions", 0),
        mask=torch.from_numpy(np.stack([x.mask(size) for x in layouts]))[:, None],
        targets=padded("targets", IGNORE),
        frame_ends=torch.tensor([x.frame_ends for x in layouts]),
        informative=torch.tensor([x.informative for x in layouts]),
        relevance=torch.tensor([x.relevance for x in layouts]),
    )
