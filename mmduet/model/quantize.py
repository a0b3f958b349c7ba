"""Quantise the linear layers of the language model or of the vision tower to 8 or 4 bits.

Of the language model: ``int8`` is vector-wise absmax quantisation, ``nf4`` the four-bit NormalFloat of QLoRA §3, both by
bitsandbytes; ``fp8`` is 8-bit floating point (``fp8.py``). Of the tower: ``int8`` (``int8.py``) or ``fp8``.

LLM.int8()'s separate outlier columns are not used: they would be chosen over all sessions of a step, so one session's scores
would depend on the others. Large models have such columns and lose more accuracy with ``int8`` than with ``nf4``;
``mmduet scenes drift`` measures it. Heads, projector, embeddings and language head are not quantised: they are small, or decide
when to speak. Quantised layers stay on the device of the model. Tested on CPUs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn

from mmduet.errors import OptionError
from mmduet.model.fp8 import Fp8Linear
from mmduet.model.int8 import Int8Linear
from mmduet.model.network import DuetModel

Quantization = Literal["int8", "nf4", "fp8"]
TowerQuantization = Literal["int8", "fp8"]
CPU_BLOCK = (32, 64)  # block of bitsandbytes' fast CPU path, rows and columns; it fails on other multiples


def quantize(model: DuetModel, kind: Quantization) -> None:
    """Quantise the linear layers of ``model.lm`` in place, on their device.

    Raises ``OptionError`` for an unknown kind, a missing library or a device without the number type.
    """
    _check_kind("quantize", kind, get_args(Quantization))
    if kind == "fp8":
        _replace_linear_layers(model.lm.layers, quantize_layer_to_fp8)
    else:
        _replace_linear_layers(model.lm.layers, partial(_bitsandbytes_layer, _import_bitsandbytes(), kind=kind))


def quantize_tower(model: DuetModel, kind: TowerQuantization) -> None:
    """Quantise the linear layers of the blocks of ``model.tower`` in place, on their device; other layers stay as they are.

    Raises ``OptionError`` for an unknown kind or a device without the number type.
    """
    _check_kind("quantize_tower", kind, get_args(TowerQuantization))
    build = quantize_layer_to_fp8 if kind == "fp8" else Int8Linear.from_linear
    _replace_linear_layers(model.tower.siglip.encoder.layers, build)


def _check_kind(option: str, kind: str, known: tuple[str, ...]) -> None:
    if kind not in known:
        raise OptionError(f"{option} must be {', '.join(known[:-1])} or {known[-1]}, got {kind!r}")


def _replace_linear_layers(blocks: nn.Module, build: Callable[[nn.Linear], nn.Module]) -> None:
    for path, layer in list(blocks.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, leaf = path.rpartition(".")
            setattr(blocks.get_submodule(parent), leaf, build(layer))


def quantize_layer_to_fp8(layer: nn.Linear) -> Fp8Linear:
    """Return a copy of the layer with FP8 weights. Raises ``OptionError`` if its device does not have them."""
    if layer.weight.device.type == "mps":
        raise OptionError("fp8 weights are not available on mps; use the CPU or a CUDA device, or another quantisation")
    return Fp8Linear.from_linear(layer)


def _import_bitsandbytes() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at its import, and at every int8 product
    try:
        import bitsandbytes
    except ImportError:
        raise OptionError("quantised weights need bitsandbytes; run: pip install 'mmduet[quant]'") from None
    return bitsandbytes


def _bitsandbytes_layer(library: Any, layer: nn.Linear, kind: Quantization) -> nn.Module:
    """Return a quantised copy of the layer. bitsandbytes quantises weights when they move to their device."""
    modules, weight, device = library.nn, layer.weight.detach(), layer.weight.device
    shape = (layer.in_features, layer.out_features, layer.bias is not None)
    if kind == "int8":
        new = modules.Linear8bitLt(*shape, has_fp16_weights=False, threshold=0.0, device="meta")
        new.weight = modules.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    else:
        new = modules.Linear4bit(*shape, compute_dtype=weight.dtype, quant_type="nf4", device="meta")
        new.weight = modules.Params4bit(weight.cpu(), requires_grad=False, quant_type="nf4", module=new)
        new.support_avx512bf16_for_cpu &= not any(n % block for n, block in zip(weight.shape, CPU_BLOCK, strict=True))
    if layer.bias is not None:
        new.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    quantized: nn.Module = new.to(device)
    return quantized


def weight_bytes(model: DuetModel) -> int:
    """Return the bytes of all weights, including quantisation scales.

    Call before the first forward, because bitsandbytes moves its scales there.
    """
    return sum(parameter.nbytes + _scale_bytes(parameter) for parameter in model.parameters())


def _scale_bytes(parameter: nn.Parameter) -> int:
    """Return the bytes of a quantised parameter's scales: one per row (int8) or per block (nf4)."""
    blocks = getattr(parameter, "quant_state", None)
    nested = getattr(blocks, "state2", None)  # the scales of blocks are themselves quantised
    scales = (getattr(parameter, "SCB", None), getattr(blocks, "absmax", None), getattr(nested, "absmax", None))
    return sum(scale.nbytes for scale in scales if isinstance(scale, torch.Tensor))
