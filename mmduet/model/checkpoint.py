"""Write and read checkpoints in mmduet's format, and read LLaVA-OneVision's.

A checkpoint is a directory of ``mmduet.json`` (manifest), ``model.safetensors`` and ``tokenizer.json``. It is written to a
temporary directory that is then renamed, so it is either complete or absent.
"""

from __future__ import annotations

import json
import os
import shutil
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mmduet.errors import CheckpointError, OptionError
from mmduet.files import as_option_error
from mmduet.model.architecture import check_architecture, describe_other_contents
from mmduet.model.config import DuetConfig
from mmduet.model.config_files import read_json_object
from mmduet.model.key_mapping import UNUSED, to_internal_key
from mmduet.model.llava_config import CONFIG, TOWER_LAYER, read_config
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import StoredTensor, TensorFiles
from mmduet.model.tokenizer import Tokenizer
from mmduet.model.weight_loading import Progress, load_weights, required_shapes

MANIFEST, WEIGHTS, TOKENIZER = "mmduet.json", "model.safetensors", "tokenizer.json"
#: What a tokenizer is converted from where there is no ``tokenizer.json``.
TOKENIZER_SOURCES = (
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
FORMAT = 1


def save_checkpoint(
    directory: str | Path,
    model: DuetModel,
    tokenizer: Tokenizer,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write model and tokenizer to ``directory``, which is replaced if it exists; ``extra`` is added to the manifest.

    Raises ``CheckpointError`` if the model was quantised or has unmerged adapters, ``OptionError`` if it cannot be written.
    """
    target = Path(directory)
    if required_shapes(model) != required_shapes(build_meta_model(target, model.config)):
        raise CheckpointError(
            "a model that is quantised or has unmerged adapters cannot be saved; save it before, or merge the adapter"
        )
    tensors = {k: v.to(dtype or v.dtype).contiguous() for k, v in _checkpoint_tensors(model).items()}
    manifest = {"format": FORMAT, "model": model.config.to_dict(), **(extra or {})}
    with atomic_directory(target) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        (temporary / TOKENIZER).write_text(tokenizer.backend.to_str(pretty=True), encoding="utf-8")
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return target


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary directory that replaces ``target`` when the block succeeds and is deleted when it fails.

    Raises ``OptionError`` if it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _write_errors(target):
            temporary.mkdir(parents=True)
            yield temporary
            _replace_directory(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """Convert errors from writing a checkpoint into an ``OptionError`` that names its directory."""
    try:
        with as_option_error(target):
            yield
    except SafetensorError as error:  # "Error while serializing: I/O error: No space left on device (os error 28)"
        reason = str(error).rpartition("error: ")[2].partition(" (os error")[0]
        raise OptionError(f"{target} cannot be written ({reason}); use another path") from error


def _replace_directory(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``; an existing target is kept until then."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.replace(old)
    temporary.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def _checkpoint_tensors(model: DuetModel) -> dict[str, Tensor]:
    required = required_shapes(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name in required}


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read a checkpoint's manifest. Raises ``CheckpointError`` if it is missing or of another format."""
    path = Path(directory) / MANIFEST
    if not path.exists():
        hint = describe_other_contents(Path(directory))
        raise CheckpointError(f"{directory} is not a checkpoint: it contains neither {MANIFEST} nor {CONFIG}{hint}")
    manifest = read_json_object(path)
    if (found := manifest.get("format")) != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    if "model" not in manifest:
        raise CheckpointError(f"{path} has no description of the model; write the checkpoint again")
    return manifest


def load_checkpoint(
    directory: str | Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    adapter_tensors: Collection[str] = (),
    pickles: bool = False,
    progress: Progress | None = None,
) -> tuple[DuetModel, Tokenizer]:
    """Load a checkpoint, mmduet's or LLaVA-OneVision's, in ``dtype`` onto ``device``, one tensor at a time.

    ``adapter_tensors`` may be missing, because an adapter provides them. With ``pickles``, ``.bin`` files are read too. Raises
    ``CheckpointError`` naming every missing, unexpected or misshapen tensor.
    """
    root = Path(directory)
    config, files, tensors = describe_checkpoint(root, pickles)
    tokenizer = read_tokenizer(root, config.text.vocab_size)  # before the weights, so that an error is found early
    model = build_meta_model(root, config)
    load_weights(model, files, tensors, dtype, device, adapter_tensors=adapter_tensors, progress=progress)
    return model.eval(), tokenizer


def build_meta_model(root: Path, config: DuetConfig) -> DuetModel:
    """Build the network on the meta device, without allocating memory. Raises ``CheckpointError`` for impossible shapes."""
    try:
        with torch.device("meta"):
            return DuetModel(config)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{root} describes a model that cannot be built: {error}") from error


def describe_checkpoint(root: Path, pickles: bool = False) -> tuple[DuetConfig, TensorFiles, dict[str, StoredTensor]]:
    """Return a checkpoint's description, its files, and its tensors by internal key. No weights are read."""
    if (root / MANIFEST).exists() or not (root / CONFIG).exists():
        manifest, files = read_manifest(root), TensorFiles(root, pickles)
        return DuetConfig.from_dict(manifest["model"]), files, files.tensors
    check_architecture(root / CONFIG)
    files = TensorFiles(root, pickles)
    tensors = _with_internal_keys(files)
    config = read_config(root, {key: tensor.shape for key, tensor in tensors.items()})
    return config, files, _without_dropped_layers(config, tensors)


def _with_internal_keys(files: TensorFiles) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in files.tensors.items():
        if UNUSED.fullmatch(name):
            continue
        key = to_internal_key(name)
        if key in tensors:
            raise CheckpointError(
                f"{files.root} contains both {tensors[key].name} and {name}, names of the same tensor"
            )
        tensors[key] = tensor
    return tensors


def _without_dropped_layers(config: DuetConfig, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return the tensors without those of tower layers that do not run."""
    dropped = [key for key in tensors if (m := TOWER_LAYER.fullmatch(key)) and int(m[1]) >= config.vision.layers]
    return {key: tensor for key, tensor in tensors.items() if key not in dropped}


def read_tokenizer(root: Path, max_tokens: int) -> Tokenizer:
    """Read the tokenizer in ``root``. Raises ``CheckpointError`` if it has more than ``max_tokens`` tokens."""
    tokenizer = _read_tokenizer(root)
    if tokenizer.size > max_tokens:
        raise CheckpointError(
            f"{root}: the tokenizer has {tokenizer.size} tokens, the model only {max_tokens}; use the model's own tokenizer"
        )
    return tokenizer


def _read_tokenizer(root: Path) -> Tokenizer:
    """Read ``tokenizer.json``, or convert Qwen's ``vocab.json`` and ``merges.txt`` with Transformers."""
    if (root / TOKENIZER).exists() or not (root / "vocab.json").exists():
        return Tokenizer.from_file(root / TOKENIZER)
    from transformers import Qwen2Tokenizer

    with TemporaryDirectory() as folder:  # without config.json, whose model type would select another class
        try:
            for file in (root / name for name in TOKENIZER_SOURCES if (root / name).exists()):
                (Path(folder) / file.name).write_bytes(file.read_bytes().removeprefix(BOM_UTF8))
            converted = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
            return Tokenizer(converted.backend_tokenizer, str(root))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the tokenizer files in {root} cannot be read: {error}; download them again"
            ) from error
