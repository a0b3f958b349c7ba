"""Rotary position embedding of queries and keys. Source: RoFormer §3.2, with the dimensions paired as in Qwen."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """Cosines and sines of tokens, each [N, 1, 1, head_dim / 2]: computed in float32, stored in the model's dtype."""

    cos: Tensor
    sin: Tensor


def inverse_frequencies(theta: float, head_dim: int, device: torch.device) -> Tensor:
    """Return the float32 angles per position [head_dim / 2] of the base ``theta``."""
    exponent = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    return 1.0 / (theta**exponent)


def compute_rotary(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotary:
    """Return cosines and sines of positions [N]. Any position is valid, because no table is read."""
    angles = positions.to(torch.float32)[:, None, None, None] * frequencies  # [N, 1, 1, head_dim / 2]
    return Rotary(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate_(heads: Tensor, rotary: Rotary) -> None:
    """Rotate queries and keys [N, heads, head_dim] in place."""
    pairs = heads.view(*heads.shape[:-1], 2, -1)  # [N, heads, 2, head_dim / 2]
    crossed = pairs * rotary.sin
    pairs.mul_(rotary.cos)
    pairs[:, :, 0].sub_(crossed[:, :, 1])
    pairs[:, :, 1].add_(crossed[:, :, 0])
