"""Weights and inputs in 8-bit integers: one scale per output row of a weight and one per input row.

Products of integers are exact, so a row gives the same result in every batch. On CUDA, which is untested, fewer than 17 rows
are multiplied in the type of the inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.model.scaled_linear import ScaledLinear

INT8_MAX = 127
CUDA_MIN_ROWS = 17  # integer products on CUDA need this many rows
CUDA_BLOCK = 8  # and sizes that are multiples of this


class Int8Linear(ScaledLinear):
    """A linear layer with a weight in 8-bit integers, which rounds its inputs likewise."""

    @staticmethod
    def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight [out, in] in int8 and its scales [out]."""
        codes, scale = round_to_int8(weight)
        return codes, scale[:, 0]

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the outputs [N, out] for inputs [N, in]."""
        if has_int8_products(rows, self.weight):
            return int8_product(rows, self.weight, self.scale, self.bias)
        return F.linear(rows, self.dequantize(rows.dtype), self.bias)


def round_to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``rows`` [N, n] to int8; return them and their float32 scales [N, 1], so that rows = codes * scale."""
    scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / INT8_MAX
    return (rows / scale).round_().to(torch.int8), scale


def int8_product(rows: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``rows @ (scale * codes).T + bias`` [N, out] with inputs [N, in] rounded to int8, in the type of the inputs."""
    inputs, input_scale = round_to_int8(rows)
    product = torch._int_mm(inputs, codes.t()) * scale  # float32 [N, out]
    scaled = product * input_scale if bias is None else torch.addcmul(bias.float(), product, input_scale)
    return scaled.to(rows.dtype)


def has_int8_products(rows: Tensor, codes: Tensor) -> bool:
    """Return whether the device multiplies matrices of 8-bit integers fast, for inputs [N, in] and a weight [out, in].

    CPUs need the instructions for it (AVX-512 VNNI).
    """
    if rows.is_cuda:
        return len(rows) >= CUDA_MIN_ROWS and not any(size % CUDA_BLOCK for size in codes.shape)
    return len(rows) > 0 and rows.device.type == "cpu" and torch.cpu._is_vnni_supported()
