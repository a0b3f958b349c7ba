"""Merges a PEFT LoRA adapter into a model: W += scale * B @ A, and the modules that the adapter holds whole; no peft needed.

The adapter names its tensors by the model's own module paths, as PEFT writes them for a ``DuetModel``
(``base_model.model.lm.layers.0.self_attn.q_proj.lora_A.weight``). Whatever it holds is used, or is an error.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmduet.errors import CheckpointError, ModelNotFoundError
from mmduet.model.network import DuetModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
WHOLE = re.compile(r"\.modules_to_save(\.default)?")
#: Settings that would make the merge another one than that which is done here.
REFUSED = ("use_dora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "layers_to_transform")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it lies on disk: where from, the factor of its LoRA products, its tensors by module path."""

    path: Path
    scale: float
    tensors: dict[str, Tensor]


def read_adapter(directory: str | Path) -> Adapter:
    """Raises ``ModelNotFoundError`` where there is none, ``CheckpointError`` for one that cannot be merged."""
    root = Path(directory)
    if not (root / CONFIG).is_file():
        raise ModelNotFoundError(f"{root} holds no {CONFIG}; it is no adapter directory")
    try:
        config: dict[str, Any] = json.loads((root / CONFIG).read_text())
        tensors = load_file(root / WEIGHTS)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"adapter {root} cannot be read: {type(error).__name__}: {error}") from error
    odd = [name for name in REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA" or odd:
        raise CheckpointError(
            f"adapter {root} is not plain LoRA ({config.get('peft_type')}, {odd}); merge it with PEFT"
        )
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(root, scale, {WHOLE.sub("", name.removeprefix(PREFIX)): t for name, t in tensors.items()})


@torch.no_grad()
def merge_adapter(model: DuetModel, adapter: Adapter) -> None:
    """Change ``model`` in place. Raises ``CheckpointError`` naming every tensor that fits nowhere; then nothing is changed."""
    whole = {n: t for n, t in adapter.tensors.items() if ".lora_" not in n}
    paths = {n.split(".lora_")[0] for n in adapter.tensors if ".lora_" in n}
    changes: dict[str, Tensor] = dict(whole)
    parameters = dict(model.named_parameters())
    faults: list[str] = []
    for path in sorted(paths):
        down, up = (adapter.tensors.get(f"{path}.lora_{side}.weight") for side in "AB")
        if down is None or up is None or not isinstance(_module(model, path), nn.Linear):
            faults.append(f"{path}: there is no such matrix in the model, or half of its LoRA pair is missing")
        else:
            changes[f"{path}.weight"] = adapter.scale * (up.float() @ down.float())
    for name, tensor in changes.items():
        wanted = tuple(parameters[name].shape) if name in parameters else None
        if wanted != tuple(tensor.shape):
            faults.append(f"{name}: the adapter has {tuple(tensor.shape)}, the model {wanted}")
    if faults or not changes:
        raise CheckpointError(f"adapter {adapter.path} does not fit the model: {'; '.join(faults) or 'it is empty'}")
    for name, tensor in changes.items():
        parameters[name].copy_(tensor if name in whole else parameters[name].float() + tensor)


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None
