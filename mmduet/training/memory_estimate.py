"""Predict the memory that training a recipe takes on one device, from the shape of its model alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel
from mmduet.training.activation_memory import BFLOAT16, FLOAT32, ActivationMemory, BatchShape
from mmduet.training.recipe import LowRank, Recipe
from mmduet.training.trainable import lora_paths

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # per weight: its code, a scale per 64 weights, and a scale per 256 scales
ADAM_STATES = 2
BLOCK_8BIT = 256  # values of a state of 8 bits that share a float32 scale
MIN_8BIT = 4096  # states of smaller tensors stay float32
MAX_FLOAT32_WEIGHTS = 1_000_000_000  # larger models keep their stored type on a CPU
GIGABYTE = 1e9
StoredType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes on one device.

    Attributes:
        shape: The batch that the estimate is for.
        frozen: Weights that are not trained, by part and number type.
        trained: Trained weights, which are float32.
        gradients: Gradients of the trained weights.
        optimizer: States of the optimizer.
        average: The moving average of the trained weights.
        activations: What passes through the network allocate, by part. Not all of it exists at the same time.
        step: The most that a step allocates at a time, including gradients.
        loading: Peak while the model is loaded, before its weights are quantised.
    """

    shape: BatchShape
    frozen: Mapping[str, int]
    trained: int
    gradients: int
    optimizer: int
    average: int
    activations: Mapping[str, int]
    step: int
    loading: int

    @property
    def resident(self) -> int:
        """What exists during the whole run."""
        return sum(self.frozen.values()) + self.trained + self.optimizer + self.average

    @property
    def total(self) -> int:
        """The peak of the run."""
        return max(self.resident + self.step, self.loading)

    def to_dict(self) -> dict[str, Any]:
        """Return the bytes under their names in JSON files."""
        shape = self.shape
        return {
            "batch": {
                "samples": shape.samples, "tokens": shape.total_tokens, "frames": shape.samples * shape.frames,
                "learned_tokens": shape.targets,
            },
            "frozen_weights": dict(self.frozen),
            "trained_weights": self.trained,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "moving_average": self.average,
            "activations": dict(self.activations),
            "step": self.step,
            "loading": self.loading,
            "total": self.total,
        }  # fmt: skip


def estimate(
    recipe: Recipe,
    config: DuetConfig,
    *,
    device_type: str,
    stored: StoredType = "bfloat16",
    shape: BatchShape | None = None,
) -> MemoryEstimate:
    """Predict the memory of training ``recipe`` with a model of the shape ``config``.

    Not included are PyTorch itself, fragmentation (a few percent), the buffers of several devices, and the memory of the
    processes that decode videos.

    Args:
        device_type: "cpu" or "cuda", which differ in attention and in the number type that ``dtype: auto`` stands for.
        stored: Number type of the model's files.
        shape: Size of a batch; None: the largest that the recipe allows.
    """
    with torch.device("meta"):
        model = DuetModel(config)
    weight_size = _weight_size(recipe, model, device_type, stored)
    shape = shape or BatchShape.largest(recipe, config)
    memory = ActivationMemory(recipe, config, shape, weight_size, device_type)
    trained = list(_trained_sizes(recipe, model))
    count, full = sum(trained), recipe.method.kind == "full"
    gradients = count * FLOAT32
    head = model.lm_head.weight.numel()
    copied = _linear_weights(model.lm) + head if full or weight_size == FLOAT32 else 0
    passes = memory.peak(head_weights=head if full else 0, copied_weights=copied)
    accumulated = gradients if recipe.optimization.accumulation > 1 else 0
    return MemoryEstimate(
        shape=shape,
        frozen=_frozen_weights(recipe, model, weight_size),
        trained=count * FLOAT32,
        gradients=gradients,
        optimizer=sum(_state_bytes(size, recipe.optimization.optimizer) for size in trained),
        average=count * FLOAT32 if recipe.optimization.ema is not None else 0,
        activations=_activations(memory),
        step=max(passes + accumulated, gradients),
        loading=_count(model) * weight_size if recipe.method.kind == "qlora" else 0,
    )


def format_estimate(found: MemoryEstimate) -> str:
    """Return the estimate as a table in GB (1e9 bytes)."""
    shape = found.shape
    rows = [
        *((f"frozen weights: {name}", size) for name, size in found.frozen.items()),
        ("trained weights, float32", found.trained),
        ("optimizer states", found.optimizer),
        ("moving average of the weights", found.average),
        ("gradients", found.gradients),
        *((f"activations: {name}", size) for name, size in found.activations.items()),
        ("peak of a step, gradients included", found.step),
        ("peak while loading", found.loading),
        ("peak of the run", found.total),
    ]
    shown = [(name, size) for name, size in rows if size or name == "trained weights, float32"]
    width = max(len(name) for name, _ in shown)
    batch = f"{shape.samples} samples of {shape.tokens:,} tokens and {shape.frames} frames, {shape.targets:,} tokens learned"
    return "\n".join([f"batch: {batch}", *(f"{name:{width}}  {size / GIGABYTE:9.3f} GB" for name, size in shown)])


def _activations(memory: ActivationMemory) -> dict[str, int]:
    """Return the parts of the activations. The tower's are released before the language model's, unless it is trained."""
    return {
        "vision tower": memory.images() + memory.tower(),
        "projector": memory.projector(),
        "language model": (memory.language_model() or memory.layer_forward()) + memory.hidden() + memory.mask(),
        "logits of learned tokens": memory.logits(),
    }


def _weight_size(recipe: Recipe, model: DuetModel, device_type: str, stored: StoredType) -> int:
    """Return the bytes of a frozen weight that is not quantised."""
    dtype = recipe.dtype
    if dtype == "auto":
        dtype = "float32" if device_type == "cpu" and _count(model) <= MAX_FLOAT32_WEIGHTS else stored
    return FLOAT32 if dtype == "float32" else BFLOAT16


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _linear_weights(module: nn.Module) -> int:
    return sum(each.weight.numel() for each in module.modules() if isinstance(each, nn.Linear))


def _trained_sizes(recipe: Recipe, model: DuetModel) -> Iterator[int]:
    """Yield the number of values of every trained tensor."""
    method = recipe.method
    if method.kind == "heads":
        parts: list[nn.Module] = [model.heads]
    elif isinstance(method, LowRank):
        for layer in (model.get_submodule(path) for path in lora_paths(method.targets, model.config)):
            assert isinstance(layer, nn.Linear)
            yield from (method.rank * layer.in_features, method.rank * layer.out_features)
        parts = [model.get_submodule(name) for name in method.saved_modules]
    else:
        parts = [model.projector, model.lm, model.heads, *([model.tower] if method.train_tower else [])]
        if not model.config.text.tied:
            parts.append(model.lm_head)
    yield from (parameter.numel() for part in parts for parameter in part.parameters())


def _frozen_weights(recipe: Recipe, model: DuetModel, size: int) -> dict[str, int]:
    """Return the bytes of frozen weights by part and number type."""
    method, dtype = recipe.method, "float32" if size == FLOAT32 else "bfloat16"
    saved = method.saved_modules if isinstance(method, LowRank) else ("heads",) if method.kind == "heads" else ()
    frozen: dict[str, int] = {}
    if not (method.kind == "full" and method.train_tower):
        frozen[f"vision tower, {dtype}"] = _count(model.tower) * size
    if method.kind == "full":
        return frozen
    matrices = _linear_weights(model.lm)
    if method.kind == "qlora":
        frozen["language model, nf4"] = int(matrices * NF4_BITS / 8)
    else:
        frozen[f"language model, {dtype}"] = matrices * size
    rest = _count(model.lm) - matrices + (0 if model.config.text.tied else _count(model.lm_head))
    rest += sum(_count(model.get_submodule(name)) for name in ("projector", "heads") if name not in saved)
    frozen[f"embeddings, language head and others, {dtype}"] = rest * size
    return frozen


def _state_bytes(values: int, optimizer: str) -> int:
    """Return the bytes of both states of one trained tensor."""
    if optimizer == "adamw" or values < MIN_8BIT:
        return ADAM_STATES * values * FLOAT32
    return ADAM_STATES * (values + -(-values // BLOCK_8BIT) * FLOAT32)
