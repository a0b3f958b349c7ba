"""Read a PEFT LoRA adapter and merge it into a model: W += scale * B @ A, plus modules and biases saved in full.

Tensors are named by module path, as PEFT writes them for a ``DuetModel``
(``base_model.model.lm.layers.0.self_attn.q_proj.lora_A.weight``) or for the models that ``key_mapping`` supports. PEFT is not
needed. Every tensor of the adapter is used, except those of modules that a duet model does not have or does not run; any other
tensor that cannot be used is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmduet.errors import CheckpointError, ModelNotFoundError
from mmduet.model.config_files import read_json_object
from mmduet.model.key_mapping import UNUSED, to_internal_key
from mmduet.model.llava_config import TOWER_LAYER
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import pickle_error, read_pickle

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
EMBEDDING, LM_HEAD = "lm.embed_tokens", "lm_head"
LORA_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?")
#: Parts of names that PEFT's wrappers add: copies of modules, and the layer inside a LoRA layer.
SAVED_COPY, INNER_LAYER = re.compile(r"\.modules_to_save(\.default)?"), re.compile(r"\.base_layer(?=\.)")
#: Settings with which PEFT does not compute W + scale * B @ A.
UNSUPPORTED_SETTINGS = (
    "use_dora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "layer_replication", "kasa_config",
    "monteclora_config", "velora_config", "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
    "arrow_config",
)  # fmt: skip
#: Values of ``init_lora_weights``. Others (pissa, olora, ...) change the base weights too.
SUPPORTED_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class LoraPair:
    """The two matrices of one layer, ``down`` [r, in] and ``up`` [out, r], and the factor of their product."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter as it is stored on disk.

    Attributes:
        path: Its directory.
        lora_pairs: LoRA matrices by module path. Those of an embedding are transposed, so that they fit its weight.
        replacements: Tensors that replace those of the base model, by name.
        copies: Names of the replacements that were trained as copies (``modules_to_save``), so that a tensor which is tied
            to the original is not changed.
        keeps_ties: Whether tied tensors were changed together (``ensure_weight_tying``).
    """

    path: Path
    lora_pairs: dict[str, LoraPair]
    replacements: dict[str, Tensor]
    copies: frozenset[str] = frozenset()
    keeps_ties: bool = False

    @property
    def layer_biases(self) -> dict[str, Tensor]:
        """The biases of the language model's linear layers, by module path."""
        names = (name for name in self.replacements if re.fullmatch(r"lm\.layers\..+_proj\.bias", name))
        return {name.removesuffix(".bias"): self.replacements[name] for name in names}

    @property
    def unties(self) -> bool:
        """Whether embedding and language head of a tied model differ with this adapter."""
        copied = self.copies & {f"{EMBEDDING}.weight", f"{LM_HEAD}.weight"}
        return not self.keeps_ties and bool(copied or self.lora_pairs.keys() & {EMBEDDING, LM_HEAD})


def read_adapter(directory: str | Path, pickles: bool = False) -> Adapter:
    """Read an adapter; with ``pickles`` also from ``adapter_model.bin``.

    Raise ``ModelNotFoundError`` if there is none, ``CheckpointError`` if it cannot be merged.
    """
    root = Path(directory)
    if not (root / CONFIG).is_file():
        raise ModelNotFoundError(f"{root} holds no {CONFIG}; pass the directory that PEFT's save_pretrained wrote")
    config = read_json_object(root / CONFIG)
    check_lora_config(root, config)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in _read_tensors(root, pickles).items()}
    try:
        return _parse_tensors(root, config, tensors)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, re.error) as error:
        raise CheckpointError(
            f"{root / CONFIG} cannot be used ({type(error).__name__}: {error}); save the adapter again with PEFT"
        ) from error


def check_lora_config(root: Path, config: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` unless the configuration of an adapter is plain LoRA."""
    unsupported = [name for name in UNSUPPORTED_SETTINGS if config.get(name)]
    if config.get("init_lora_weights", True) not in SUPPORTED_INITS:
        unsupported.append("init_lora_weights")
    if config.get("peft_type") != "LORA" or unsupported:
        kind = " with ".join([str(config.get("peft_type")), *([", ".join(unsupported)] if unsupported else [])])
        raise CheckpointError(f"adapter {root} is {kind}, not plain LoRA; merge it with PEFT and convert the result")


def _read_tensors(root: Path, pickles: bool) -> dict[str, Tensor]:
    if not (root / WEIGHTS).exists() and (root / PICKLE).exists():
        if not pickles:
            raise pickle_error(root, PICKLE)
        return read_pickle(root / PICKLE)
    try:
        return load_file(root / WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"adapter {root} cannot be read ({type(error).__name__}: {error}); save it again with PEFT, as safetensors"
        ) from error


def _parse_tensors(root: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
    """Sort tensors into LoRA pairs and replacements. Raise ``CheckpointError`` for contradictions and wrong ranks."""
    sides: dict[str, dict[str, Tensor]] = {}  # by the path that PEFT uses, which patterns of ranks refer to
    replacements: dict[str, Tensor] = {}
    copies, inner = set(), set()
    for name, tensor in tensors.items():
        plain = INNER_LAYER.sub("", SAVED_COPY.sub("", name))
        if UNUSED.fullmatch(plain):
            continue
        if lora := LORA_KEY.fullmatch(plain):
            target, key = sides.setdefault(lora["path"], {}), lora["side"]
            if lora["embedding"]:  # W [tokens, width] += (B @ A).T = A.T @ B.T
                key, tensor = "AB"[key == "A"], tensor.T
        else:
            target, key = replacements, to_internal_key(plain)
            copies |= {key} if SAVED_COPY.search(name) or _is_saved_module(plain, config) else set()
            inner |= {key} if INNER_LAYER.search(name) else set()
        if key in target:
            raise CheckpointError(f"adapter {root}: {name} is listed twice, also under another name; keep one")
        target[key] = tensor
    pairs = _lora_pairs(root, config, sides)
    if both := sorted({f"{path}.weight" for path in pairs} & (replacements.keys() - inner)):
        raise CheckpointError(f"adapter {root}: {both[0]} is stored both in full and as LoRA; save the adapter again")
    return Adapter(root, pairs, replacements, frozenset(copies), bool(config.get("ensure_weight_tying")))


def _is_saved_module(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a tensor is in a module that PEFT copies, because the path of the module ends with a listed name."""
    parts = name.split(".")
    modules = (".".join(parts[:length]) for length in range(1, len(parts)))
    return any(module.endswith(tuple(config.get("modules_to_save") or ())) for module in modules)


def _lora_pairs(
    root: Path, config: Mapping[str, Any], sides: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, LoraPair]:
    pairs: dict[str, LoraPair] = {}
    for name, pair in sides.items():
        path = to_internal_key(name)
        rank = int(_by_pattern(config.get("rank_pattern"), name, config["r"]))
        alpha = float(_by_pattern(config.get("alpha_pattern"), name, config["lora_alpha"]))
        if set(pair) != {"A", "B"} or not pair["A"].shape[0] == pair["B"].shape[1] == rank:
            found = {side: tuple(tensor.shape) for side, tensor in pair.items()}
            raise CheckpointError(f"adapter {root}: {path} has {found}, expected A and B of rank {rank}; save it again")
        if path in pairs:
            raise CheckpointError(f"adapter {root}: {name} is listed twice, also under another name; keep one")
        pairs[path] = LoraPair(pair["A"], pair["B"], alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    return pairs


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """Return the value of the first pattern that the end of a module's path matches, as PEFT does."""
    matches = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", name))
    return next(matches, default)


@torch.no_grad()
def merge_adapter(model: DuetModel, adapter: Adapter) -> None:
    """Merge into ``model`` in place. If a tensor does not fit, raise ``CheckpointError`` and leave the model unchanged.

    A tied language head gets a weight of its own if the adapter changes the head or the embedding alone.
    """
    adapter = fit_adapter(adapter, model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in adapter.replacements.keys() - adapter.copies:
        parameters[name].copy_(adapter.replacements[name])
    if model.config.text.tied and adapter.unties:
        model.untie()
        parameters = dict(model.named_parameters())
    for name in adapter.replacements.keys() & adapter.copies:
        parameters[name].copy_(adapter.replacements[name])
    for path, pair in adapter.lora_pairs.items():
        weight = parameters[f"{path}.weight"]
        product = pair.up.to(weight.device).float() @ pair.down.to(weight.device).float()
        weight.copy_(weight.float() + pair.scale * product)


def fit_adapter(adapter: Adapter, model: DuetModel) -> Adapter:
    """Return the part of the adapter that ``model`` runs. Raise ``CheckpointError`` listing all tensors that do not fit."""
    adapter = _without_unused_parts(adapter, model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    layers = {path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    problems = [f"{path} is not a linear layer of the model" for path in adapter.lora_pairs.keys() - layers]
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"{path}.weight", (p.up.shape[0], p.down.shape[1])) for path, p in adapter.lora_pairs.items()
    ]
    shapes += [(name, tuple(tensor.shape)) for name, tensor in adapter.replacements.items()]
    problems += _contradictions(adapter, model)
    for name, shape in shapes:
        if name not in parameters:
            problems.append(f"{name}: the model has no such tensor")
        elif tuple(parameters[name].shape) != shape:
            problems.append(f"{name}: the adapter has {shape}, the model has {tuple(parameters[name].shape)}")
    if problems or not (adapter.lora_pairs or adapter.replacements):
        reason = "; ".join(sorted(problems)) or "it has no tensors"
        raise CheckpointError(f"adapter {adapter.path} does not fit: {reason}; use the model that it was trained on")
    return adapter


def _without_unused_parts(adapter: Adapter, model: DuetModel) -> Adapter:
    """Return the adapter without the tower's last layer, if that does not run, and without the second of two tied parts."""
    tied = model.config.text.tied and adapter.keeps_ties
    has_embedding = bool({EMBEDDING, f"{EMBEDDING}.weight"} & {*adapter.lora_pairs, *adapter.replacements})

    def is_used(key: str) -> bool:
        layer = TOWER_LAYER.match(key)
        is_second = tied and has_embedding and key in (LM_HEAD, f"{LM_HEAD}.weight")
        return not is_second and (layer is None or int(layer[1]) != model.config.vision.layers)

    pairs = {path: pair for path, pair in adapter.lora_pairs.items() if is_used(path)}
    replacements = {name: tensor for name, tensor in adapter.replacements.items() if is_used(name)}
    return replace(adapter, lora_pairs=pairs, replacements=replacements)


def _contradictions(adapter: Adapter, model: DuetModel) -> list[str]:
    """Return what is wrong with weights that replace both the embedding and the head of a tied model."""
    shared = [adapter.replacements.get(f"{path}.weight") for path in (EMBEDDING, LM_HEAD)]
    in_place = not adapter.copies & {f"{EMBEDDING}.weight", f"{LM_HEAD}.weight"}
    first, second = shared
    if not (model.config.text.tied and in_place) or first is None or second is None or torch.equal(first, second):
        return []
    return ["the adapter has different weights for the embedding and the language head, which are tied in the model"]
