"""One product for several linear layers that have the same input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmduet.model.adapted_linear import AdaptedLinear
from mmduet.model.inference.packed import Activation, PackedLinear, Packing, should_pack
from mmduet.model.scaled_linear import ScaledLinear

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda inputs: F.gelu(inputs, approximate="tanh"),
    "silu": F.silu,
}


class FusedLinear(Protocol):
    """Linear layers with the same input [N, in], whose outputs are concatenated to [N, out]."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs [N, out]."""

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        """Return the outputs plus ``residual`` [N, out]."""

    def activate(self, inputs: Tensor, activation: Activation) -> Tensor:
        """Return the activated outputs [N, out]."""


class DenseLinear:
    """Fused layers with an ordinary weight [out, in]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self._transposed = self.weight.t()

    def __call__(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight, self.bias)

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        if self.bias is None:
            return torch.addmm(residual, inputs, self._transposed)
        return self(inputs).add_(residual)

    def activate(self, inputs: Tensor, activation: Activation) -> Tensor:
        return _ACTIVATIONS[activation](self(inputs))


class SeparateLinears:
    """Layers that only their own module can compute, such as quantised or adapted ones: one product each."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = tuple(layers)

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs = [layer(inputs[None])[0] for layer in self.layers]  # the modules expect a batch axis
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs).add_(residual)

    def activate(self, inputs: Tensor, activation: Activation) -> Tensor:
        return _ACTIVATIONS[activation](self(inputs))


class AdaptedLinears:
    """Fused layers of a base model, to which adapters add their outputs on the rows of their own sessions."""

    def __init__(self, base: FusedLinear, layers: Sequence[nn.Module], widths: Sequence[int]) -> None:
        """Take the product of the bases of ``layers``, of which each has ``widths[i]`` outputs."""
        self.base = base
        ends = list(accumulate(widths))
        parts = zip(layers, ends, widths, strict=True)
        self._adapted = [
            (layer, slice(end - width, end)) for layer, end, width in parts if isinstance(layer, AdaptedLinear)
        ]

    def __call__(self, inputs: Tensor) -> Tensor:
        return self._changed(inputs, self.base(inputs))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self._changed(inputs, self.base.add(inputs, residual))

    def activate(self, inputs: Tensor, activation: Activation) -> Tensor:
        return _ACTIVATIONS[activation](self(inputs))

    def _changed(self, inputs: Tensor, out: Tensor) -> Tensor:
        for layer, columns in self._adapted:
            layer.add_changes(inputs, out[:, columns])
        return out


class GatedLinear:
    """The first half of a gated MLP (SwiGLU): ``silu(gate(x)) * up(x)``. Source: Shazeer, GLU Variants, §2."""

    def __init__(self, gate_up: FusedLinear) -> None:
        self.gate_up = gate_up

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return [N, width] of inputs [N, in]."""
        gate, up = self.gate_up(inputs).chunk(2, -1)
        return F.silu(gate).mul_(up)


class PackedGatedLinear:
    """``GatedLinear`` as two packed products, which apply the activation and the gate to their outputs."""

    def __init__(self, gate: PackedLinear, up: PackedLinear) -> None:
        self.gate, self.up = gate, up

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return [N, width] of inputs [N, in]."""
        return self.up.multiply(inputs, self.gate.activate(inputs, "silu"))


def fuse(layers: Sequence[nn.Module], *, packing: Packing = "auto", release: bool = False) -> FusedLinear:
    """Return one product for layers with the same input.

    The weights of plain ``nn.Linear`` layers are concatenated once, and their parameters become views of the result: the
    modules stay usable and no memory is used twice. Packed weights are copies; ``release`` then empties the
    parameters, so that the modules can neither compute nor be saved. Layers with weights in 8 bits and a scale per row are
    concatenated likewise. Adapters are added to the fused product. Modules of other types are applied one by one.

    Call this after the weights are loaded and on their device: packed copies do not follow later changes.
    """
    bases = [layer.base if isinstance(layer, AdaptedLinear) else layer for layer in layers]
    linears = [base for base in bases if type(base) is nn.Linear]  # layers of bitsandbytes are subclasses
    if len(linears) < len(layers):
        return SeparateLinears(_joined_scaled(layers))
    if any(isinstance(layer, AdaptedLinear) for layer in layers):
        fused = fuse(linears, packing=packing, release=release)
        return AdaptedLinears(fused, layers, [base.out_features for base in linears])
    if not should_pack(linears[0].weight, packing):
        return DenseLinear(*_concatenate(linears))
    packed = PackedLinear(torch.cat([layer.weight for layer in linears]), _concatenated_bias(linears))
    if release:
        _release(linears)
    return packed


def from_weight(weight: Tensor, bias: Tensor | None, *, packing: Packing = "auto") -> DenseLinear | PackedLinear:
    """Return the product with a weight [out, in] that belongs to no ``nn.Linear``. Packing is that of ``fuse``."""
    return PackedLinear(weight, bias) if should_pack(weight, packing) else DenseLinear(weight, bias)


def fuse_gated(
    gate: nn.Module, up: nn.Module, *, packing: Packing = "auto", release: bool = False
) -> GatedLinear | PackedGatedLinear:
    """Return the first half of a gated MLP. Weights are treated as by ``fuse``."""
    if type(gate) is nn.Linear and type(up) is nn.Linear and should_pack(gate.weight, packing):
        parts = PackedLinear(gate.weight, gate.bias), PackedLinear(up.weight, up.bias)
        if release:
            _release([gate, up])
        return PackedGatedLinear(*parts)
    return GatedLinear(fuse([gate, up], packing=packing, release=release))


def _joined_scaled(layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return one layer in place of layers of one scaled kind, whose parameters become views of it, else ``layers``."""
    scaled = [layer for layer in layers if isinstance(layer, ScaledLinear) and not layer.weight.is_mkldnn]
    kinds = {(type(layer), layer.bias is None) for layer in scaled}
    if len(scaled) < len(layers) or len(kinds) > 1:
        return layers
    biases = [layer.bias for layer in scaled if layer.bias is not None]
    weight, scale = _joined([layer.weight for layer in scaled]), _joined([layer.scale for layer in scaled])
    return [type(scaled[0])(weight, scale, _joined(biases) if biases else None)]


def _concatenate(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Concatenate weights and biases, and make the parameters views of them. A single layer keeps its tensors."""
    weight = _joined([layer.weight for layer in layers])
    biases: list[Tensor | None] = [layer.bias for layer in layers]
    present = [bias for bias in biases if bias is not None]
    return weight, _joined(present) if len(present) == len(layers) else _concatenated_bias(layers)


def _joined(parameters: Sequence[Tensor]) -> Tensor:
    """Return the parameters as one tensor, of which they become views. Adjacent views of one tensor are joined in place."""
    first = parameters[0].data
    rows = sum(len(parameter) for parameter in parameters)
    if _are_adjacent(parameters):
        return first.as_strided((rows, *first.shape[1:]), first.stride())
    with torch.inference_mode(mode=first.is_inference()):  # a parameter and its data have to be of the same kind
        joined = torch.cat([parameter.data for parameter in parameters])
        begin = 0
        for parameter in parameters:
            parameter.data = joined[begin : begin + len(parameter)]
            begin += len(parameter)
    return joined


def _are_adjacent(parameters: Sequence[Tensor]) -> bool:
    """Return whether the parameters follow each other in one storage, as after an earlier fusion."""
    storage, end = parameters[0].untyped_storage().data_ptr(), parameters[0].storage_offset()
    for parameter in parameters:
        if parameter.untyped_storage().data_ptr() != storage or parameter.storage_offset() != end:
            return False
        if not parameter.is_contiguous():
            return False
        end += parameter.numel()
    return True


def _concatenated_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    """Return a copy of the biases, with zeros for layers without one, or None if no layer has one."""
    biases: list[Tensor | None] = [layer.bias for layer in layers]
    if all(bias is None for bias in biases):
        return None
    pairs = zip(layers, biases, strict=True)
    return torch.cat([layer.weight.new_zeros(layer.out_features) if bias is None else bias for layer, bias in pairs])


def _release(layers: Sequence[nn.Linear]) -> None:
    """Free the weights. The empty parameters have one dimension, so that a forward of the module raises an error."""
    for layer in layers:
        layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)
