r"""Compare the forward passes of mmduet.model.inference with those of the Transformers modules, on the same weights.

The variants run in turn, so that a machine whose speed changes affects all of them alike; the medians are printed:

    python scripts/measure_modules.py --model random:0.5b --dtype bfloat16 --rows 1,49,196 --layers 4 --threads 2
    python scripts/measure_modules.py --model nano --parts decoder,tower --rows 16,256 --frames 1,16 --json modules.json

``never`` and ``always`` are values of ``packing``; ``always`` is left out where weights cannot be packed. ``speedup`` is
relative to the module.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.model.config import DuetConfig, TextShape
from mmduet.model.inference.decoder import Decoder
from mmduet.model.inference.linear import fuse, fuse_gated
from mmduet.model.inference.normalization import RMSNorm
from mmduet.model.inference.packed import is_packing_supported
from mmduet.model.inference.vision import VisionEncoder
from mmduet.model.network import build_language_model
from mmduet.model.presets import random_config
from mmduet.model.tower import VisionTower, patchify

Variants = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Case:
    """One computation in several variants. ``operations`` are the floating-point operations of its matrix products."""

    name: str
    variants: Variants
    operations: float = 0.0


def linear_cases(config: DuetConfig, rows: list[int], packings: list[str]) -> Iterator[Case]:
    """Yield the linear layers of one decoder layer for each number of rows."""
    text = config.text
    layer: Any = build_language_model(replace(text, layers=1)).eval().layers[0]
    attention, mlp = layer.self_attn, layer.mlp
    groups = {
        "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
        "out": [attention.o_proj],
        "down": [mlp.down_proj],
    }
    for count in rows:
        for name, layers in groups.items():
            inputs = torch.randn(count, layers[0].in_features)
            fused = {packing: fuse(layers, packing=packing) for packing in packings}
            variants: Variants = {"module": lambda x=inputs, ls=layers: [one(x) for one in ls]}
            variants |= {packing: lambda x=inputs, f=f: f(x) for packing, f in fused.items()}
            outputs = sum(one.out_features for one in layers)
            yield Case(f"{name} {count} rows", variants, 2.0 * count * layers[0].in_features * outputs)
        inputs = torch.randn(count, text.hidden_size)
        gated = {packing: fuse_gated(mlp.gate_proj, mlp.up_proj, packing=packing) for packing in packings}
        variants = {"module": lambda x=inputs: F.silu(mlp.gate_proj(x)) * mlp.up_proj(x)}
        variants |= {packing: lambda x=inputs, f=f: f(x) for packing, f in gated.items()}
        yield Case(f"gate_up {count} rows", variants, 4.0 * count * text.hidden_size * text.intermediate_size)


def norm_cases(config: DuetConfig, rows: list[int], packings: list[str]) -> Iterator[Case]:
    """Yield the RMS norm, ours and PyTorch's."""
    module: Any = build_language_model(replace(config.text, layers=1)).eval().norm
    ours = RMSNorm(module)
    for count in rows:
        x = torch.randn(count, config.text.hidden_size)
        yield Case(
            f"norm {count} rows",
            {
                "module": lambda x=x: module(x),
                "ours": lambda x=x: ours(x),
                "torch": lambda x=x: F.rms_norm(x, x.shape[-1:], module.weight, ours.eps),
            },
        )


def decoder_cases(config: DuetConfig, rows: list[int], packings: list[str]) -> Iterator[Case]:
    """Yield the language model on one causal sequence without a past."""
    lm: Any = build_language_model(config.text).eval()
    decoders = {packing: Decoder(lm, packing=packing) for packing in packings}
    for count in rows:
        embeds, positions = torch.randn(count, config.text.hidden_size), torch.arange(count)
        variants: Variants = {"module": lambda x=embeds: lm(inputs_embeds=x[None], use_cache=False)}
        for packing, decoder in decoders.items():
            variants[packing] = lambda x=embeds, p=positions, d=decoder: d.forward(x, d.rotary(p), attend)
        yield Case(f"decoder {count} rows", variants, count * text_operations(config.text))


def tower_cases(config: DuetConfig, frames: list[int], packings: list[str]) -> Iterator[Case]:
    """Yield the vision tower on a batch of frames."""
    tower, shape = VisionTower(config.vision).eval(), config.vision
    encoders = {packing: VisionEncoder(tower.siglip, shape, packing=packing) for packing in packings}
    per_layer = 2.0 * shape.hidden_size * (4 * shape.hidden_size + 2 * shape.intermediate_size)
    for count in frames:
        pixels = torch.randn(count, 3, shape.image_size, shape.image_size)
        variants: Variants = {"module": lambda x=pixels: tower(x)}
        for packing, encoder in encoders.items():
            variants[packing] = lambda x=pixels, e=encoder: e.forward(patchify(x, shape.patch_size))
        yield Case(f"tower {count} frames", variants, count * shape.grid**2 * shape.layers * per_layer)


def attend(layer: int, queries: Tensor, keys_values: Tensor, last: bool) -> Tensor:
    """Attend causally within one sequence."""
    keys, values = keys_values.permute(1, 2, 0, 3)  # each [kv_heads, N, head_dim]
    out = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None], keys[None], values[None], is_causal=True, enable_gqa=True
    )
    return out[0].transpose(0, 1).flatten(1)


def text_operations(text: TextShape) -> float:
    """Return the floating-point operations of the linear layers for one token."""
    attention = text.hidden_size * text.head_dim * 2 * (text.heads + text.kv_heads)
    return 2.0 * text.layers * (attention + 3 * text.hidden_size * text.intermediate_size)


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Run the variants in turn and return the median milliseconds of each, with rates and ratios."""
    seconds: dict[str, list[float]] = {name: [] for name in case.variants}
    for turn in range(rounds + 1):
        for name, run in case.variants.items():
            begin = perf_counter()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(perf_counter() - begin)
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "case": case.name,
        "milliseconds": {name: round(1e3 * value, 4) for name, value in medians.items()},
        "speedup": {name: round(medians["module"] / value, 3) for name, value in medians.items()},
        "gflops": {name: round(case.operations / value / 1e9, 1) for name, value in medians.items()},
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="shape: nano, random:0.5b, random:7b or random:tiny")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--parts", default="linear,norm,decoder,tower")
    parser.add_argument("--rows", default="1,16,64,256", help="tokens per forward")
    parser.add_argument("--frames", default="1,4", help="frames per forward of the tower")
    parser.add_argument("--layers", type=int, help="number of layers of language model and tower (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    return parser.parse_args(arguments)


def model_shape(options: argparse.Namespace) -> DuetConfig:
    """Return the shape of the model, with fewer layers if so requested."""
    config = random_config(options.model.removeprefix("random:"))
    if options.layers is None:
        return config
    fewer = {"layers": options.layers}
    return replace(config, vision=replace(config.vision, **fewer), text=replace(config.text, **fewer))


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    torch.set_default_dtype(getattr(torch, options.dtype))
    packings = ["never", *(["always"] if is_packing_supported(getattr(torch, options.dtype)) else [])]
    rows, frames = ([int(n) for n in text.split(",")] for text in (options.rows, options.frames))
    parts = {
        "linear": (linear_cases, rows), "norm": (norm_cases, rows), "decoder": (decoder_cases, rows),
        "tower": (tower_cases, frames),
    }  # fmt: skip
    results = []
    with torch.inference_mode():
        for part in options.parts.split(","):
            cases, counts = parts[part]
            for case in cases(model_shape(options), counts, packings):
                results.append(measure(case, options.rounds))
                print(json.dumps(results[-1]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
