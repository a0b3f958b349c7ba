"""Rotary position embedding of queries and keys. Source: RoFormer §3.2, with the dimensions paired as in Qwen."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """Cosines and sines of tokens, each [N, 1, head_dim]: computed in float32, stored in the model's dtype.

    Both halves of a row belong to the same angles; the sines of the first half are negative.
    """

    cos: Tensor
    sin: Tensor


def inverse_frequencies(theta: float, head_dim: int, device: torch.device) -> Tensor:
    """Return the float32 angles per position [head_dim / 2] of the base ``theta``."""
    exponent = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    return 1.0 / (theta**exponent)


def compute_rotary(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotary:
    """Return cosines and sines of positions [N]. Any position is valid, because no table is read."""
    angles = positions.to(torch.float32)[:, None, None] * frequencies  # [N, 1, head_dim / 2]
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return Rotary(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))


def rotate_(heads: Tensor, rotary: Rotary) -> None:
    """Rotate queries and keys [N, heads, head_dim] in place."""
    first, second = heads.chunk(2, -1)
    crossed = torch.cat([second, first], -1).mul_(rotary.sin)
    heads.mul_(rotary.cos).add_(crossed)
