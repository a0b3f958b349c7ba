"""Keys and values in 8-bit floating point: one byte per number and one per scale, about half of bfloat16.

``rows`` are rotated keys and values [N, 2, kv_heads, head_dim] of N tokens. Scales are powers of two, which ``float8_e8m0fnu``
stores exactly in one byte, so restored rows are the same in every number type. Keys and values have separate scales, either per
token and head (``quantize_rows``), or per head (``quantize_rows_with``), calibrated once; values beyond 448 scales saturate.
An engine does not use this module yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmduet.model.fp8 import FP8, FP8_MAX, power_of_two_scale, round_to_fp8

SCALE = torch.float8_e8m0fnu


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows to FP8; return codes [N, 2, kv_heads, head_dim] and scales [N, 2, kv_heads] in ``SCALE``."""
    codes, scales = round_to_fp8(rows)
    return codes, scales.to(SCALE)


def quantize_rows_with(rows: Tensor, scales: Tensor) -> Tensor:
    """Round rows to FP8 with given scales [2, kv_heads]; return the codes. Larger values become the largest that fits."""
    scaled = rows.float() / scales.float()[..., None]
    return scaled.clamp_(-FP8_MAX, FP8_MAX).to(FP8)


def dequantize_rows(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Restore rows [N, 2, kv_heads, head_dim] from codes and scales, [N, 2, kv_heads] or [2, kv_heads]."""
    return codes.to(dtype) * scales.to(dtype)[..., None]


def calibrate_scales(rows: Tensor, headroom: float = 1.0) -> Tensor:
    """Return scales [2, kv_heads] for ``quantize_rows_with`` from example rows; ``headroom`` times their values also fit."""
    return power_of_two_scale(headroom * rows.abs().amax((0, 3)).float()).to(SCALE)


def row_bytes(kv_heads: int, head_dim: int) -> int:
    """Return the bytes of the keys and values of one token in one layer, with a scale per token and head."""
    return 2 * kv_heads * (head_dim + 1)
