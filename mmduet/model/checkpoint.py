"""Our checkpoint on disk: one directory, one manifest, safetensors, a tokenizer; every on-disk name lives here.

Layout: ``mmduet.json`` (manifest), ``model.safetensors``, ``tokenizer.json``. Written beside the target and renamed, so a
directory either is a whole checkpoint or does not exist.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmduet.errors import CheckpointError
from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel
from mmduet.model.tokenizer import Tokenizer

MANIFEST, WEIGHTS, TOKENIZER = "mmduet.json", "model.safetensors", "tokenizer.json"
FORMAT = 1
TIED_AWAY = "lm_head.weight"  # not stored where it is the embedding


def save_checkpoint(
    directory: str | Path,
    model: DuetModel,
    tokenizer: Tokenizer,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write model and tokenizer to ``directory`` (replaced whole if it exists); ``extra`` goes into the manifest."""
    target = Path(directory)
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
    state = model.state_dict()
    if model.config.text.tied:
        state.pop(TIED_AWAY)
    return state


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint; raises ``CheckpointError`` where there is none or it is of another format."""
    path = Path(directory) / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{directory} holds no {MANIFEST}; it is not a checkpoint of this project") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or "model" not in manifest:
        raise CheckpointError(f"{path} is of format {found!r}; this version reads format {FORMAT}")
    return dict(manifest)


def load_checkpoint(
    directory: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[DuetModel, Tokenizer]:
    """Read a checkpoint; raises ``CheckpointError`` naming every missing, unexpected or misshapen tensor."""
    root = Path(directory)
    config = DuetConfig.from_dict(read_manifest(root)["model"])
    with torch.device("meta"):
        model = DuetModel(config)
    try:
        tensors = load_file(root / WEIGHTS, device=device)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{root / WEIGHTS} cannot be read: {error}") from error
    _check(
        root / WEIGHTS,
        {k: tuple(v.shape) for k, v in _stored(model).items()},
        {k: tuple(v.shape) for k, v in tensors.items()},
    )
    model.load_state_dict({k: v.to(dtype) for k, v in tensors.items()}, assign=True, strict=False)
    if config.text.tied:
        model.lm_head.weight = model.lm.embed_tokens.weight
    _materialise_buffers(model, device)
    tokenizer = Tokenizer.from_file(root / TOKENIZER)
    if tokenizer.size > config.text.vocab_size:
        raise CheckpointError(
            f"{root / TOKENIZER} has {tokenizer.size} tokens, the model only {config.text.vocab_size}"
        )
    return model.eval().requires_grad_(False), tokenizer


def _check(path: Path, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    faults = [f"missing {name} {wanted[name]}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"unexpected {name} {found[name]}" for name in sorted(found.keys() - wanted.keys())]
    faults += [
        f"misshapen {name}: wanted {wanted[name]}, found {found[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
    if faults:
        raise CheckpointError(f"{path} does not fit its manifest: {'; '.join(faults)}")


def _materialise_buffers(model: DuetModel, device: str) -> None:
    """Give the buffers that no checkpoint stores (position indices, rotary frequencies) their values."""
    config, rotary = model.lm.config, model.lm.rotary_emb
    model.lm.rotary_emb = type(rotary)(config=config).to(device)
    embeddings = model.tower.siglip.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand((1, -1))
