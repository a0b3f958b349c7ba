"""Linear layers on a CPU with weights in oneDNN's blocked layout, and with fused activations and residual additions."""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["gelu", "gelu_tanh", "silu"]
Packing = Literal["auto", "always", "never"]

_POINTWISE: dict[Activation, tuple[str, str]] = {  # oneDNN's name of the activation and its algorithm
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}


class PackedLinear:
    """A linear layer with its own copy of the weight in a blocked layout, which no product has to reorder.

    The layout does not depend on the number of rows, and the values are not changed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy the weight [out, in]. Raises ``RuntimeError`` if oneDNN does not accept it."""
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self.bias = None if bias is None else bias.detach()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs [N, out] of inputs [N, in]."""
        return self._pointwise(inputs, "none", "")

    def activate(self, inputs: Tensor, activation: Activation) -> Tensor:
        """Return the activated outputs [N, out]."""
        return self._pointwise(inputs, *_POINTWISE[activation])

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        """Return the outputs plus ``residual`` [N, out]."""
        return self._binary(inputs, residual, "add")

    def multiply(self, inputs: Tensor, factor: Tensor) -> Tensor:
        """Return the outputs times ``factor`` [N, out], element by element."""
        return self._binary(inputs, factor, "mul")

    def _pointwise(self, inputs: Tensor, name: str, algorithm: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(inputs, self.weight, self.bias, name, [], algorithm)
        return out

    def _binary(self, inputs: Tensor, other: Tensor, name: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.weight, self.bias, name)
        return out


def should_pack(weight: Tensor, packing: Packing) -> bool:
    """Return whether to pack a weight: ``auto`` packs where the CPU multiplies the dtype in hardware.

    ``always`` packs every dtype that oneDNN supports here. Weights on other devices are never packed.
    """
    if packing == "never" or weight.device.type != "cpu":
        return False
    if packing == "auto" and not (weight.dtype == torch.bfloat16 and _has_bfloat16_products()):
        return False
    return is_packing_supported(weight.dtype)


@cache
def is_packing_supported(dtype: torch.dtype) -> bool:
    """Return whether this build of PyTorch packs weights of ``dtype`` and computes with them. The operators are private."""
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    if not torch._C._has_mkldnn or not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return False
    if dtype not in (torch.float32, torch.bfloat16) or (dtype == torch.bfloat16 and not _accepts_bfloat16()):
        return False
    try:
        return _computes_correctly(dtype)
    except (RuntimeError, TypeError):  # TypeError: another signature
        return False


def _computes_correctly(dtype: torch.dtype) -> bool:
    """Run every operation once on small values that both dtypes represent exactly."""
    weight, inputs = torch.eye(32, dtype=dtype), torch.arange(64, dtype=dtype).view(2, 32)
    layer = PackedLinear(weight, torch.ones(32, dtype=dtype))
    expected, tolerance = inputs + 1, 0.02
    pairs = [
        (layer(inputs), expected),
        (layer.add(inputs, inputs), expected + inputs),
        (layer.multiply(inputs, torch.full_like(inputs, 2)), expected * 2),
        *((layer.activate(inputs, name), expected) for name in _POINTWISE),  # the identity on large positive values
    ]
    return all(torch.allclose(out[:, 16:], want[:, 16:], rtol=tolerance) for out, want in pairs)


def _accepts_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_bfloat16_products() -> bool:
    """Return whether an x86 CPU has AVX512-BF16 or AMX. Elsewhere oneDNN may emulate bfloat16."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)
