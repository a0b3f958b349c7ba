"""The limit of a step on this machine: the time for its arithmetic or for reading the weights, whichever is longer.

The limit of a step of S frames of K tokens is

    max(S * (2 * (K * A + L) + F) / R, W / B)

with A: weights of the language model's linear layers that every token needs; L: those of the last layer that only the last
token needs (all but keys and values); F: operations of the vision tower and the projector for one frame, 0 if visual tokens are
given; R: operations per second that matrix products reach at the shapes of these layers; W: bytes of the weights that the step
reads; B: bytes per second of a copy in memory, read and written. For a step of S tokens, K is 1, F is 0 and L includes the
language head. Attention, norms and everything else count as zero, so no engine reaches the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from mmduet.model import DuetModel
from mmduet.model.scaled_linear import ScaledLinear

PrepareProduct = Callable[[Tensor, int], Callable[[], Any]]

FORMULA = "max(operations / gemm_flops, weight_bytes / copy_bytes)"
MIN_ROWS = 512  # rows of the measured products, if a step has fewer: the limit is that of large products
COPY_BYTES = 1 << 27
MEASURE_SECONDS = 0.1  # for each shape and method
REPEATS = 3  # the best one counts


@dataclass(frozen=True)
class MachineLimit:
    """Rates that this machine reaches: operations per second of matrix products, bytes per second of a copy."""

    gemm_flops: float
    copy_bytes: float
    gemm_method: str


@dataclass(frozen=True)
class StepLoad:
    """What a step must compute at least: operations for each frame or token, and bytes of weights in all."""

    operations: float
    weight_bytes: int

    def limit_seconds(self, machine: MachineLimit, count: int) -> float:
        """Return the limit in seconds of a step of ``count`` frames or tokens."""
        return max(count * self.operations / machine.gemm_flops, self.weight_bytes / machine.copy_bytes)


def frame_load(network: DuetModel, with_tower: bool) -> StepLoad:
    """Return the load of a step of frames; ``with_tower``: from pixels."""
    config, projector, size = network.config, network.projector, _weight_bytes(network.lm)
    operations = lm_operations(network, config.frame_tokens)
    if with_tower:
        by_patch = _linear_weights(network.tower) + _linear_weights(projector.fc1)
        by_token = _linear_weights(projector.fc2)
        operations += 2.0 * (config.vision.grid**2 * by_patch + config.frame_tokens * by_token)
        size += _weight_bytes(network.tower) + _weight_bytes(projector)
    return StepLoad(operations, size)


def token_load(network: DuetModel) -> StepLoad:
    """Return the load of a step of tokens."""
    head = network.lm_head.weight
    return StepLoad(2.0 * (_linear_weights(network.lm) + head.numel()), _weight_bytes(network.lm) + head.nbytes)


def lm_operations(network: DuetModel, tokens: int) -> float:
    """Return the operations of the language model's linear layers for ``tokens`` tokens, of which only the last one is read."""
    attention = network.lm.layers[-1].self_attn
    keys_values = _linear_weights(attention.k_proj) + _linear_weights(attention.v_proj)
    only_last = _linear_weights(network.lm.layers[-1]) - keys_values
    return 2.0 * (tokens * (_linear_weights(network.lm) - only_last) + only_last)


def measure_machine(network: DuetModel, rows: int) -> MachineLimit:
    """Measure the rates at the shapes of the language model's linear layers, with at least ``MIN_ROWS`` rows."""
    methods = {"linear": _plain_product}
    if network.device.type == "cpu":
        methods["prepacked"] = _prepacked_product
    for kind in {type(layer) for layer in _linear_layers(network.lm) if isinstance(layer, ScaledLinear)}:
        methods["quantised"] = partial(_quantised_product, kind)
    rates = dict(_gemm_rates(methods, layer_shapes(network), max(rows, MIN_ROWS), network.dtype, network.device))
    method = max(rates, key=lambda name: rates[name])
    return MachineLimit(rates[method], _copy_rate(network.device), method)


def layer_shapes(network: DuetModel) -> Counter[tuple[int, int]]:
    """Return the shapes (out, in) of the linear layers of one decoder layer, and how often each occurs."""
    return Counter((layer.out_features, layer.in_features) for layer in _linear_layers(network.lm.layers[0]))


def _linear_layers(module: nn.Module) -> list[nn.Linear | ScaledLinear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear | ScaledLinear)]


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _linear_weights(module: nn.Module) -> int:
    """Return the number of weights in linear and convolution layers, without biases."""
    products = sum(layer.out_features * layer.in_features for layer in _linear_layers(module))
    return products + sum(layer.weight.numel() for layer in _convolutions(module))


def _weight_bytes(module: nn.Module) -> int:
    """Return the bytes in which these weights are stored."""
    return sum(layer.weight.nbytes for layer in (*_linear_layers(module), *_convolutions(module)))


def _gemm_rates(
    methods: Mapping[str, PrepareProduct],
    shapes: Counter[tuple[int, int]],
    rows: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[tuple[str, float]]:
    """Yield the operations per second of each method over all layers together."""
    operations = sum(2.0 * rows * out * width * count for (out, width), count in shapes.items())
    for name, prepare in methods.items():
        with suppress(RuntimeError, AttributeError, TypeError, NotImplementedError):  # a build without oneDNN
            seconds = 0.0
            for (out, width), count in shapes.items():
                seconds += count * _best_seconds(prepare(_random(out, width, dtype, device), rows), device)
            yield name, operations / seconds


def _plain_product(weight: Tensor, rows: int) -> Callable[[], Any]:
    inputs = torch.ones(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    return lambda: nn.functional.linear(inputs, weight)


def _prepacked_product(weight: Tensor, rows: int) -> Callable[[], Any]:
    """Return a product with a weight in the layout that oneDNN prefers."""
    inputs = torch.ones(rows, weight.shape[1], dtype=weight.dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return lambda: torch.ops.mkldnn._linear_pointwise.default(inputs, packed, None, "none", [], "")


def _quantised_product(kind: type[ScaledLinear], weight: Tensor, rows: int) -> Callable[[], Any]:
    inputs = torch.ones(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    layer = kind(*kind.round_weight(weight), None)
    return lambda: layer(inputs)


def _random(out: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(out, width, device=device).to(dtype)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(COPY_BYTES // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one call, the best of ``REPEATS`` averages."""
    function()
    single = _seconds(function, device, 1)
    calls = max(1, round(MEASURE_SECONDS / REPEATS / max(single, 1e-6)))
    return min(_seconds(function, device, calls) for _ in range(REPEATS))


@torch.inference_mode()
def _seconds(function: Callable[[], Any], device: torch.device, calls: int) -> float:
    synchronize(device)
    begin = perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (perf_counter() - begin) / calls


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
