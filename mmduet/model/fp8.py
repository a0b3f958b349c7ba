"""Weights in 8-bit floating point (E4M3), one scale per output row: 3 bits of mantissa, so half the memory of bfloat16.

Scales of weights are powers of two. Multiplying by them is exact in every number type, so the weights in use are exactly those
that are stored, and a scale that is up to 2 times too large costs no accuracy, because the rounding is relative. CUDA devices
with 8-bit floating-point products (compute capability 8.9 or newer) also round the inputs, with one scale per row and step;
elsewhere the weights of a layer are converted to the type of the inputs for each product. The first way is untested on CUDA.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.model.scaled_linear import ScaledLinear

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0  # 0.875 * 2**9
MIN_CAPABILITY = (8, 9)  # first CUDA compute capability with FP8 products
PRODUCT_BLOCK = 16  # FP8 products need both sizes of a weight to be multiples of this


class Fp8Linear(ScaledLinear):
    """A linear layer with a weight in FP8."""

    @staticmethod
    def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight [out, in] in FP8 and its scales [out]."""
        return round_to_fp8(weight)

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the outputs [N, out] for inputs [N, in]."""
        fits = not (self.in_features % PRODUCT_BLOCK or self.out_features % PRODUCT_BLOCK)
        if fits and has_fp8_products(rows.device):
            return fp8_product(rows, self.weight, self.scale, self.bias)
        return F.linear(rows, self.dequantize(rows.dtype), self.bias)


def round_to_fp8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``rows`` [..., n] to FP8; return them and their scales [...], float32 powers of two, so that rows = codes * scale.

    The largest absolute value of a row becomes a number from 224 to 448, and nothing overflows.
    """
    scale = power_of_two_scale(rows.abs().amax(-1).float())
    return (rows.float() / scale[..., None]).to(FP8), scale


def power_of_two_scale(largest: Tensor) -> Tensor:
    """Return the smallest powers of two by which values up to ``largest`` (float32) have to be divided to fit into FP8."""
    mantissa, exponent = torch.frexp(largest)  # largest = mantissa * 2**exponent, mantissa in [0.5, 1)
    return torch.ldexp(torch.ones_like(largest), exponent - 9 + (mantissa > FP8_MAX / 2**9))


def fp8_product(rows: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``rows @ (scale * codes).T + bias`` [N, out] with the inputs [N, in] rounded to FP8, in the type of the inputs.

    The product is rounded to bfloat16, which is the only output type on all devices.
    """
    input_scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / FP8_MAX  # [N, 1]
    inputs = (rows / input_scale).to(FP8)
    product: Tensor = torch._scaled_mm(
        inputs, codes.t(), scale_a=input_scale, scale_b=scale[None], out_dtype=torch.bfloat16
    )
    product = product.to(rows.dtype)
    return product if bias is None else product + bias


@cache
def has_fp8_products(device: torch.device) -> bool:
    """Return whether a device multiplies matrices in FP8."""
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
