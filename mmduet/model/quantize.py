"""The language model's matrices in 8 or 4 bits, by bitsandbytes, on CPUs and on CUDA; everything else stays as it is.

``int8`` is vector-wise absmax quantisation, ``nf4`` the four-bit NormalFloat of QLoRA §3. LLM.int8()'s outlier columns are not
kept apart: they would be chosen over all sessions of a step, so that one session's scores would depend on the others'. Large
models have such columns and lose more by ``int8`` than by ``nf4``; measure it (``mmduet scenes drift``). Heads, projector,
tower, embeddings and language head keep their numbers: they are small, or decide when to speak. Run on CPUs only so far.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import torch
from torch import nn

from mmduet.errors import OptionError
from mmduet.model.network import DuetModel

Quantization = Literal["int8", "nf4"]
CPU_BLOCK = (32, 64)  # rows and columns that bitsandbytes' quick path for CPUs takes at once; it stops at any rest


def quantize(model: DuetModel, kind: Quantization) -> None:
    """Replace the linear layers of ``model.lm`` in place. Raises ``OptionError`` for an unknown kind or a missing library."""
    if kind not in get_args(Quantization):
        raise OptionError(f"quantize is {kind!r}; use {' or '.join(get_args(Quantization))}")
    library = _library()
    for block in model.lm.layers:
        for path, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear):
                parent, _, leaf = path.rpartition(".")
                setattr(block.get_submodule(parent), leaf, _quantized(library, layer, kind))


def _library() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise OptionError("quantised weights need bitsandbytes; run: pip install 'mmduet[quant]'") from None
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # it warns at every product of int8
    return bitsandbytes


def _quantized(library: Any, layer: nn.Linear, kind: Quantization) -> nn.Module:
    """The layer's numbers are quantised as it moves to its device, as bitsandbytes has it."""
    made, weight, device = library.nn, layer.weight.detach(), layer.weight.device
    shape = (layer.in_features, layer.out_features, layer.bias is not None)
    if kind == "int8":
        new = made.Linear8bitLt(*shape, has_fp16_weights=False, threshold=0.0, device="meta")
        new.weight = made.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    else:
        new = made.Linear4bit(*shape, compute_dtype=weight.dtype, quant_type="nf4", device="meta")
        new.weight = made.Params4bit(weight.cpu(), requires_grad=False, quant_type="nf4", module=new)
        new.support_avx512bf16_for_cpu &= not any(n % block for n, block in zip(weight.shape, CPU_BLOCK, strict=True))
    if layer.bias is not None:
        new.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    quantized: nn.Module = new.to(device)
    return quantized


def weight_bytes(model: DuetModel) -> int:
    """Bytes of all weights, as they are held, with what belongs to quantised ones; before the first forward moves that."""
    return sum(parameter.nbytes + _scales(parameter) for parameter in model.parameters())


def _scales(parameter: nn.Parameter) -> int:
    """Bytes of what turns quantised numbers back: a scale for each row (int8) or each block (nf4)."""
    blocks = getattr(parameter, "quant_state", None)
    nested = getattr(blocks, "state2", None)  # the blocks' scales are themselves quantised
    found = (getattr(parameter, "SCB", None), getattr(blocks, "absmax", None), getattr(nested, "absmax", None))
    return sum(scales.nbytes for scales in found if isinstance(scales, torch.Tensor))
