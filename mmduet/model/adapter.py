"""Read a PEFT LoRA adapter and merge it into a model: W += scale * B @ A, plus modules saved in full. PEFT is not needed.

Tensors are named by module path, as PEFT writes them for a ``DuetModel``
(``base_model.model.lm.layers.0.self_attn.q_proj.lora_A.weight``) or for the models that ``key_mapping`` supports. Every tensor
of the adapter is used; one that cannot be used is an error.
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
from mmduet.model.key_mapping import to_internal_key
from mmduet.model.network import DuetModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LORA_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])\.weight")
MODULES_TO_SAVE = re.compile(r"\.modules_to_save(\.default)?")
#: Settings with which PEFT does not compute W + scale * B @ A.
UNSUPPORTED_SETTINGS = (
    "use_dora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "alora_invocation_tokens",
    "layer_replication", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
#: Values of ``init_lora_weights``. Others (pissa, olora, ...) change the base weights too.
SUPPORTED_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it is stored on disk.

    Attributes:
        path: Its directory.
        scale: Factor of every product B @ A.
        lora_pairs: A [r, in] and B [out, r] by module path.
        replacements: Tensors that replace those of the base model, by name.
    """

    path: Path
    scale: float
    lora_pairs: dict[str, tuple[Tensor, Tensor]]
    replacements: dict[str, Tensor]


def read_adapter(directory: str | Path) -> Adapter:
    """Read an adapter. Raise ``ModelNotFoundError`` if there is none, ``CheckpointError`` if it cannot be merged."""
    root = Path(directory)
    if not (root / CONFIG).is_file():
        raise ModelNotFoundError(f"{root} holds no {CONFIG}; pass the directory that PEFT's save_pretrained wrote")
    try:
        config: dict[str, Any] = json.loads((root / CONFIG).read_text())
        check_lora_config(root, config)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        tensors = load_file(root / WEIGHTS)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"adapter {root} cannot be read ({type(error).__name__}: {error}); save it again with PEFT, as safetensors"
        ) from error
    return _parse_tensors(root, scale, rank, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})


def check_lora_config(root: Path, config: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` unless the configuration of an adapter is plain LoRA."""
    unsupported = [name for name in UNSUPPORTED_SETTINGS if config.get(name)]
    if config.get("init_lora_weights", True) not in SUPPORTED_INITS:
        unsupported.append("init_lora_weights")
    if config.get("peft_type") != "LORA" or unsupported:
        kind = " with ".join([str(config.get("peft_type")), *([", ".join(unsupported)] if unsupported else [])])
        raise CheckpointError(f"adapter {root} is {kind}, not plain LoRA; merge it with PEFT and convert the result")


def _parse_tensors(root: Path, scale: float, rank: int, tensors: dict[str, Tensor]) -> Adapter:
    """Sort tensors into LoRA pairs and replacements. Raise ``CheckpointError`` for incomplete pairs and wrong ranks."""
    sides: dict[str, dict[str, Tensor]] = {}
    replacements: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        lora = LORA_KEY.fullmatch(name)
        target = sides.setdefault(to_internal_key(lora["path"]), {}) if lora else replacements
        key = lora["side"] if lora else to_internal_key(MODULES_TO_SAVE.sub("", name))
        if key in target:
            raise CheckpointError(f"adapter {root}: {name} is listed twice, also under another name; keep one")
        target[key] = tensor
    for path, pair in sides.items():
        if set(pair) != {"A", "B"} or not pair["A"].shape[0] == pair["B"].shape[1] == rank:
            found = {side: tuple(tensor.shape) for side, tensor in pair.items()}
            raise CheckpointError(f"adapter {root}: {path} has {found}, expected A and B of rank {rank}; save it again")
    return Adapter(root, scale, {path: (pair["A"], pair["B"]) for path, pair in sides.items()}, replacements)


@torch.no_grad()
def merge_adapter(model: DuetModel, adapter: Adapter) -> None:
    """Merge into ``model`` in place. If a tensor does not fit, raise ``CheckpointError`` and leave the model unchanged."""
    check_adapter(adapter, model)
    parameters = dict(model.named_parameters())
    for path, (down, up) in adapter.lora_pairs.items():
        weight = parameters[f"{path}.weight"]
        product = up.to(weight.device).float() @ down.to(weight.device).float()
        weight.copy_(weight.float() + adapter.scale * product)
    for name, tensor in adapter.replacements.items():
        parameters[name].copy_(tensor)


def check_adapter(adapter: Adapter, model: DuetModel) -> None:
    """Raise ``CheckpointError`` listing all tensors of the adapter that do not fit ``model``."""
    parameters = dict(model.named_parameters())
    linears = {path for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    required = {f"{path}.weight": (up.shape[0], down.shape[1]) for path, (down, up) in adapter.lora_pairs.items()}
    problems = [f"{path} is not a linear layer of the model" for path in adapter.lora_pairs.keys() - linears]
    problems += [f"{name} is stored both in full and as LoRA" for name in adapter.replacements.keys() & required.keys()]
    for name, shape in (
        required | {name: tuple(tensor.shape) for name, tensor in adapter.replacements.items()}
    ).items():
        if name not in parameters:
            problems.append(f"{name}: the model has no such tensor")
        elif tuple(parameters[name].shape) != shape:
            problems.append(f"{name}: the adapter has {shape}, the model has {tuple(parameters[name].shape)}")
    if problems or not (adapter.lora_pairs or adapter.replacements):
        reason = "; ".join(sorted(problems)) or "it has no tensors"
        raise CheckpointError(f"adapter {adapter.path} does not fit: {reason}; use the model that it was trained on")
