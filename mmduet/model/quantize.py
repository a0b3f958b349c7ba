"""Quantise the language model's linear layers to 8 or 4 bits with bitsandbytes, on CPUs or CUDA.

``int8`` is vector-wise absmax quantisation, ``nf4`` the four-bit NormalFloat of QLoRA §3. LLM.int8()'s separate outlier columns
are not used: they would be chosen over all sessions of a step, so one session's scores would depend on the others. Large models
have such columns and lose more accuracy with ``int8`` than with ``nf4``; ``mmduet scenes drift`` measures it. Heads, projector,
tower, embeddings and language head are not quantised: they are small, or decide when to speak. Quantised layers stay on the
device of the model, a CPU or a CUDA device; tested on CPUs.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import torch
from torch import nn

from mmduet.errors import OptionError
from mmduet.model.network import DuetModel

Quantization = Literal["int8", "nf4"]
CPU_BLOCK = (32, 64)  # block of bitsandbytes' fast CPU path, rows and columns; it fails on other multiples


def quantize(model: DuetModel, kind: Quantization) -> None:
    """Quantise the linear layers of ``model.lm`` in place. Raises ``OptionError`` for an unknown kind or a missing library."""
    if kind not in get_args(Quantization):
        raise OptionError(f"quantize must be {' or '.join(get_args(Quantization))}, got {kind!r}")
    library = _import_bitsandbytes()
    for block in model.lm.layers:
        for path, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear):
                parent, _, leaf = path.rpartition(".")
                setattr(block.get_submodule(parent), leaf, _quantize_layer(library, layer, kind))


def _import_bitsandbytes() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at its import, and at every int8 product
    try:
        import bitsandbytes
    except ImportError:
        raise OptionError("quantised weights need bitsandbytes; run: pip install 'mmduet[quant]'") from None
    return bitsandbytes


def _quantize_layer(library: Any, layer: nn.Linear, kind: Quantization) -> nn.Module:
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
    """Return the bytes of all weights, including quantisation scales. Call before the first forward, which moves them."""
    return sum(parameter.nbytes + _scale_bytes(parameter) for parameter in model.parameters())


def _scale_bytes(parameter: nn.Parameter) -> int:
    """Return the bytes of a quantised parameter's scales: one per row (int8) or per block (nf4)."""
    blocks = getattr(parameter, "quant_state", None)
    nested = getattr(blocks, "state2", None)  # the scales of blocks are themselves quantised
    scales = (getattr(parameter, "SCB", None), getattr(blocks, "absmax", None), getattr(nested, "absmax", None))
    return sum(scale.nbytes for scale in scales if isinstance(scale, torch.Tensor))
