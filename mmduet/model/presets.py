"""The shape of nano, and models with random weights in published shapes, for benchmarks and tests.

A random model is used only if it is requested by name (``random:0.5b``). The shapes ``0.5b`` and ``7b`` are LLaVA-OneVision's:
SigLIP so400m without its last layer, and Qwen2.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from mmduet.duet import END, IMAGE, START
from mmduet.errors import ModelNotFoundError
from mmduet.model.config import DuetConfig, Recommended, TextShape, VisionShape
from mmduet.model.network import DuetModel
from mmduet.model.tokenizer import Tokenizer
from mmduet.scenes.world import COLOURS
from mmduet.text import did_you_mean
from mmduet.video.domain import VisualDomain

NANO = DuetConfig(
    name="nano",
    vision=VisionShape(image_size=64, patch_size=8, hidden_size=128, intermediate_size=384, layers=4, heads=4),
    text=TextShape(
        vocab_size=640, hidden_size=192, intermediate_size=576, layers=4, heads=4, kv_heads=2, head_dim=48,
        max_positions=2048, rope_theta=1e4,
    ),
    pooling_stride=2,
    recommended=Recommended(
        fps=4.0, window=16, speak="threshold:0.45", min_interval=0.8, max_new_tokens=48, query="Narrate the scene."
    ),
    domain=VisualDomain("rendered scenes of coloured shapes", tuple(COLOURS.values())),
)  # fmt: skip

RANDOM = "random:"
SHAPES: dict[str, DuetConfig] = {
    "tiny": DuetConfig(
        name="random:tiny",
        vision=VisionShape(image_size=28, patch_size=7, hidden_size=32, intermediate_size=64, layers=2, heads=2),
        text=TextShape(512, 48, 96, 2, heads=4, kv_heads=2, head_dim=12, max_positions=4096, rope_theta=1e4),
        pooling_stride=2,
    ),
    "nano": replace(NANO, name="random:nano", domain=None),
    "0.5b": DuetConfig(
        name="random:0.5b",
        vision=VisionShape(),
        text=TextShape(151_936, 896, 4864, 24, heads=14, kv_heads=2, head_dim=64, tied=True),
    ),
    "7b": DuetConfig(
        name="random:7b",
        vision=VisionShape(),
        text=TextShape(152_064, 3584, 18_944, 28, heads=28, kv_heads=4, head_dim=128),
    ),
}

PUBLISHED_SIZES = ("0.5b", "7b")
"""Sizes whose shape is that of published weights, which are stored in bfloat16."""

RANDOM_MODELS = tuple(RANDOM + size for size in SHAPES)
"""Names of the models with random weights."""


def random_config(size: str) -> DuetConfig:
    """Return the shape named ``size``. Raises ``ModelNotFoundError`` for an unknown name."""
    try:
        return SHAPES[size]
    except KeyError:
        raise ModelNotFoundError(
            f"model {RANDOM + size!r} is not one of {', '.join(RANDOM_MODELS)}{did_you_mean(size, SHAPES, RANDOM)} "
            "check the size"
        ) from None


def stored_dtype(size: str) -> torch.dtype:
    """Return the number type that published weights of this shape have, float32 for shapes that are not published."""
    return torch.bfloat16 if size in PUBLISHED_SIZES else torch.float32


def random_model(
    config: DuetConfig, seed: int = 0, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> DuetModel:
    """Build a network with random weights directly in ``dtype`` on ``device``.

    The same seed gives the same weights on devices of the same type. The states of random generators are kept.
    """
    previous, target = torch.get_default_dtype(), torch.device(device)
    with _preserved_generators(target), target:
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            model = DuetModel(config)
        finally:
            torch.set_default_dtype(previous)
    return model.eval()


def _preserved_generators(device: torch.device) -> AbstractContextManager[None]:
    """Restore the state of the CPU's random generator when the block ends; for a CUDA ``device`` those of CUDA as well."""
    cuda = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    return torch.random.fork_rng(cuda, device_type="cuda")


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of the 256 bytes and the special tokens, for random models."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True) for t in (START, END, IMAGE)])
    return Tokenizer(backend)
