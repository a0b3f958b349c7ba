"""Linear layers whose weights are stored in 8 bits, with one scale per output row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn


class ScaledLinear(nn.Module, ABC):
    """Linear layer ``inputs @ (scale * weight).T + bias`` without gradients. ``weight`` [out, in] has 8 bits per number.

    ``scale`` [out] is float32. Every row of the inputs is processed alone, so the result of one session does not depend on
    the others in its step. Subclasses define how a matrix is rounded to codes and how the product is computed.
    """

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.weight = _frozen(codes)
        self.scale = _frozen(scale)
        self.bias = None if bias is None else _frozen(bias.detach())

    @classmethod
    def from_linear(cls, layer: nn.Linear) -> Self:
        """Return a quantised copy of ``layer`` on its device."""
        return cls(*cls.round_weight(layer.weight.detach()), layer.bias)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [out, in] in ``dtype``."""
        return self.weight.to(dtype) * self.scale.to(dtype)[:, None]

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [..., in] and return [..., out] in the type of the inputs."""
        rows = inputs.reshape(-1, self.in_features)  # [N, in]
        return self.multiply(rows).view(*inputs.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    @staticmethod
    @abstractmethod
    def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes [out, in] and scales [out] of a weight [out, in]."""

    @abstractmethod
    def multiply(self, rows: Tensor) -> Tensor:
        """Return the outputs [N, out] for inputs [N, in]."""


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
