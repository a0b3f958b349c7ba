"""Checkpoints on disk: ours is written and read, others are read; every name of a file of ours lives here.

Layout: ``mmduet.json`` (manifest), ``model.safetensors``, ``tokenizer.json``. Written beside the target and renamed, so a
directory either is a whole checkpoint or does not exist.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmduet.errors import CheckpointError
from mmduet.model.config import DuetConfig
from mmduet.model.key_mapping import UNUSED, to_internal_key
from mmduet.model.llava_config import CONFIG, TOWER_LAYER, read_config
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import Stored, TensorFiles
from mmduet.model.tokenizer import Tokenizer
from mmduet.model.weight_loading import Progress, load_weights, required_shapes

MANIFEST, WEIGHTS, TOKENIZER = "mmduet.json", "model.safetensors", "tokenizer.json"
FORMAT = 1


def save_checkpoint(
    directory: str | Path,
    model: DuetModel,
    tokenizer: Tokenizer,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write model and tokenizer to ``directory`` (replaced whole if it exists); ``extra`` goes into the manifest.

    Raises ``CheckpointError`` for a model whose weights are no longer those of its description.
    """
    target = Path(directory)
    if required_shapes(model) != required_shapes(empty_model(target, model.config)):
        raise CheckpointError(
            "a model that is quantised, or keeps adapters apart, cannot be written; save it before that, or merged"
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        save_file({k: v.to(dtype or v.dtype).contiguous() for k, v in _stored(model).items()}, temporary / WEIGHTS)
        tokenizer.backend.save(str(temporary / TOKENIZER))
        manifest = {"format": FORMAT, "model": model.config.to_dict(), **(extra or {})}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _swap(temporary: Path, target: Path) -> None:
    """Put the new directory in the old one's place; the old one is whole until the new one is."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.replace(old)
    temporary.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def _stored(model: DuetModel) -> dict[str, Tensor]:
    required = required_shapes(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name in required}


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint; raises ``CheckpointError`` where there is none or it is of another format."""
    path = Path(directory) / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{directory} holds no {MANIFEST} and no {CONFIG}; it is not a checkpoint") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or "model" not in manifest:
        raise CheckpointError(f"{path} is of format {found!r}; this version reads format {FORMAT}")
    return dict(manifest)


def load_checkpoint(
    directory: str | Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    given: Collection[str] = (),
    pickles: bool = False,
    progress: Progress | None = None,
) -> tuple[DuetModel, Tokenizer]:
    """Read a checkpoint, ours or LLaVA-OneVision's, in ``dtype`` onto ``device``, one tensor at a time.

    ``given``: tensors that an adapter brings, so they may be absent. ``pickles``: read ``.bin`` files too. Raises
    ``CheckpointError`` naming every missing, unexpected or misshapen tensor.
    """
    root = Path(directory)
    config, files, named = describe_checkpoint(root, pickles)
    tokenizer = read_tokenizer(root, config.text.vocab_size)  # first: its faults cost no reading of weights
    model = empty_model(root, config)
    load_weights(model, files, named, dtype, device, given=given, progress=progress)
    return model.eval(), tokenizer


def empty_model(root: Path, config: DuetConfig) -> DuetModel:
    """The network without any memory. Raises ``CheckpointError`` for shapes that no network has."""
    try:
        with torch.device("meta"):
            return DuetModel(config)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{root} describes a model that cannot be built: {error}") from error


def describe_checkpoint(root: Path, pickles: bool = False) -> tuple[DuetConfig, TensorFiles, dict[str, Stored]]:
    """What a directory holds: the model, its files, and its tensors by our names. No weights are read."""
    mine = (root / MANIFEST).exists() or not (root / CONFIG).exists()
    manifest = read_manifest(root) if mine else {}
    files = TensorFiles(root, pickles)
    named = files.stored if mine else _translated(files)
    shapes = {name: entry.shape for name, entry in named.items()}
    config = DuetConfig.from_dict(manifest["model"]) if mine else read_config(root, shapes)
    return config, files, named if mine else _used(config, named)


def _translated(files: TensorFiles) -> dict[str, Stored]:
    named: dict[str, Stored] = {}
    for name, entry in files.stored.items():
        if UNUSED.fullmatch(name):
            continue
        if to_internal_key(name) in named:
            raise CheckpointError(
                f"{files.root} holds {named[to_internal_key(name)].name} and {name}, which are one tensor here"
            )
        named[to_internal_key(name)] = entry
    return named


def _used(config: DuetConfig, named: dict[str, Stored]) -> dict[str, Stored]:
    """Without the tower's layers that do not run."""
    dropped = [n for n in named if (m := TOWER_LAYER.fullmatch(n)) and int(m[1]) >= config.vision.layers]
    return {name: entry for name, entry in named.items() if name not in dropped}


def read_tokenizer(root: Path, most: int) -> Tokenizer:
    """The tokenizer in ``root``. Raises ``CheckpointError`` for one of more than ``most`` tokens."""
    tokenizer = _read_tokenizer(root)
    if tokenizer.size > most:
        raise CheckpointError(f"{root}: the tokenizer has {tokenizer.size} tokens, the model {most}")
    return tokenizer


def _read_tokenizer(root: Path) -> Tokenizer:
    """``tokenizer.json``, or one made of ``vocab.json`` and ``merges.txt`` as Transformers does it."""
    if (root / TOKENIZER).exists() or not (root / "vocab.json").exists():
        return Tokenizer.from_file(root / TOKENIZER)
    from transformers import AutoTokenizer

    try:
        return Tokenizer(AutoTokenizer.from_pretrained(root, local_files_only=True).backend_tokenizer, str(root))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the tokenizer files in {root} cannot be read: {error}; fetch them again") from error
