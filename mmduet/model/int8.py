"""Weights and inputs in 8-bit integers: one scale per output row of a weight and one per input row.

Products of integers are exact, so a row gives the same result in every batch. On CPUs with oneDNN the weights are kept in its
own layout. CUDA is untested.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.model.scaled_linear import ScaledLinear

INT8_MAX = 127
CUDA_MIN_ROWS, CUDA_BLOCK = (
    17,
    8,
)  # integer products on CUDA need this many rows, and sizes that are multiples of the block


class Int8Linear(ScaledLinear):
    """A linear layer with a weight in 8-bit integers, which rounds its inputs likewise."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(codes, scale, bias)
        self._zero_points = torch.zeros(self.out_features, dtype=torch.int32) if self.weight.is_mkldnn else None

    @staticmethod
    def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight [out, in] in int8 and its scales [out]."""
        codes, scale = round_to_int8(weight)
        return codes, scale[:, 0]

    def store(self, codes: Tensor) -> Tensor:
        """Return the codes in oneDNN's layout on CPUs that have it."""
        if codes.device.type != "cpu" or not has_onednn_products():
            return codes
        packed: Tensor = torch.ops.onednn.qlinear_prepack(codes.contiguous(), None)
        return packed

    @property
    def codes(self) -> Tensor:
        """The stored integers [out, in], before scaling."""
        return self.weight.to_dense().t() if self.weight.is_mkldnn else self.weight

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the outputs [N, out] for inputs [N, in]."""
        if self.weight.is_mkldnn:
            return self._multiply_onednn(rows)
        if self._fits_cuda(rows):
            return self._multiply_integers(rows)
        return F.linear(rows, self.dequantize(rows.dtype), self.bias)

    def _fits_cuda(self, rows: Tensor) -> bool:
        sizes_fit = not (self.in_features % CUDA_BLOCK or self.out_features % CUDA_BLOCK)
        return rows.is_cuda and len(rows) >= CUDA_MIN_ROWS and sizes_fit

    def _multiply_onednn(self, rows: Tensor) -> Tensor:
        inputs, scale = round_to_int8(rows)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            inputs, 1.0, 0, self.weight, self.scale, self._zero_points, None, 1.0, 0, torch.float32, "none", [], ""
        )  # [N, out]
        return self._scale_rows(product, scale).to(rows.dtype)

    def _multiply_integers(self, rows: Tensor) -> Tensor:
        inputs, scale = round_to_int8(rows)
        product = torch._int_mm(inputs, self.weight.t())  # int32 [N, out]
        return self._scale_rows(product * self.scale, scale).to(rows.dtype)

    def _scale_rows(self, product: Tensor, scale: Tensor) -> Tensor:
        """Return ``product`` [N, out] times the scales [N, 1] of the input rows, plus the bias, in float32."""
        return product * scale if self.bias is None else torch.addcmul(self.bias.float(), product, scale)


def round_to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``rows`` [N, n] to int8; return them and their float32 scales [N, 1], so that rows = codes * scale."""
    scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / INT8_MAX
    return (rows / scale).round_().to(torch.int8), scale


def has_onednn_products() -> bool:
    """Return whether PyTorch has oneDNN's products of 8-bit integers here, and the CPU has the instructions (VNNI) for them.

    Without VNNI these products are slow, and sums of 16 bits can overflow.
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and torch.cpu._is_vnni_supported() and hasattr(torch.ops.onednn, "qlinear_pointwise")
