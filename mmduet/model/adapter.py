"""Merges a PEFT LoRA adapter into a model: W += scale * B @ A, and the modules that the adapter holds whole; no peft needed.

The adapter names its tensors by module paths, as PEFT writes them for a ``DuetModel``
(``base_model.model.lm.layers.0.self_attn.q_proj.lora_A.weight``) or for the models that ``names`` knows. Whatever it holds is
used, or is an error.
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
LORA = re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])\.weight")
WHOLE = re.compile(r"\.modules_to_save(\.default)?")
#: Settings with which PEFT computes something else than W + scale * B @ A.
OTHER_MATH = (
    "use_dora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "alora_invocation_tokens",
    "layer_replication", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
#: Other ways of beginning (pissa, olora, ...) change the base weights too.
PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it lies on disk. ``pairs``: module path to A [r, in] and B [out, r]; ``whole``: tensor name to tensor."""

    path: Path
    scale: float
    pairs: dict[str, tuple[Tensor, Tensor]]
    whole: dict[str, Tensor]


def read_adapter(directory: str | Path) -> Adapter:
    """Raises ``ModelNotFoundError`` where there is none, ``CheckpointError`` for one that cannot be merged."""
    root = Path(directory)
    if not (root / CONFIG).is_file():
        raise ModelNotFoundError(f"{root} holds no {CONFIG}; give the directory that PEFT's save_pretrained wrote")
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
    return _sorted(root, scale, rank, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})


def check_lora_config(root: Path, config: dict[str, Any]) -> None:
    odd = [name for name in OTHER_MATH if config.get(name)]
    if config.get("init_lora_weights", True) not in PLAIN_BEGINNINGS:
        odd.append("init_lora_weights")
    if config.get("peft_type") != "LORA" or odd:
        kind = " with ".join([str(config.get("peft_type")), *([", ".join(odd)] if odd else [])])
        raise CheckpointError(f"adapter {root} is {kind}, not plain LoRA; merge it with PEFT and convert the result")


def _sorted(root: Path, scale: float, rank: int, tensors: dict[str, Tensor]) -> Adapter:
    """Pairs together, the rest whole; raises ``CheckpointError`` for half a pair and for ranks that are not the config's."""
    sides: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        lora = LORA.fullmatch(name)
        place = sides.setdefault(to_internal_key(lora["path"]), {}) if lora else whole
        key = lora["side"] if lora else to_internal_key(WHOLE.sub("", name))
        if key in place:
            raise CheckpointError(f"adapter {root}: {name} is listed twice, also under another name; keep one")
        place[key] = tensor
    for path, pair in sides.items():
        if set(pair) != {"A", "B"} or not pair["A"].shape[0] == pair["B"].shape[1] == rank:
            found = {side: tuple(tensor.shape) for side, tensor in pair.items()}
            raise CheckpointError(f"adapter {root}: {path} has {found}, not A and B of rank {rank}; save it again")
    return Adapter(root, scale, {path: (pair["A"], pair["B"]) for path, pair in sides.items()}, whole)


@torch.no_grad()
def merge_adapter(model: DuetModel, adapter: Adapter) -> None:
    """Change ``model`` in place. Raises ``CheckpointError`` naming every tensor that does not fit; then nothing is changed."""
    check_adapter(adapter, model)
    parameters = dict(model.named_parameters())
    for path, (down, up) in adapter.pairs.items():
        weight = parameters[f"{path}.weight"]
        product = up.to(weight.device).float() @ down.to(weight.device).float()
        weight.copy_(weight.float() + adapter.scale * product)
    for name, tensor in adapter.whole.items():
        parameters[name].copy_(tensor)


def check_adapter(adapter: Adapter, model: DuetModel) -> None:
    """Raise ``CheckpointError`` naming every tensor of the adapter that does not fit ``model``."""
    parameters = dict(model.named_parameters())
    linears = {path for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    required = {f"{path}.weight": (up.shape[0], down.shape[1]) for path, (down, up) in adapter.pairs.items()}
    faults = [f"{path} is not a matrix of the model" for path in adapter.pairs.keys() - linears]
    faults += [f"{name} is there whole and as LoRA" for name in adapter.whole.keys() & required.keys()]
    for name, shape in (required | {name: tuple(tensor.shape) for name, tensor in adapter.whole.items()}).items():
        if name not in parameters:
            faults.append(f"{name}: the model has no such tensor")
        elif tuple(parameters[name].shape) != shape:
            faults.append(f"{name}: the adapter has {shape}, the model {tuple(parameters[name].shape)}")
    if faults or not (adapter.pairs or adapter.whole):
        reason = "; ".join(sorted(faults)) or "it is empty"
        raise CheckpointError(f"adapter {adapter.path} does not fit: {reason}; give the model it was trained on")
