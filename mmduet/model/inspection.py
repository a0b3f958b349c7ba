"""Report what a checkpoint or adapter directory contains and whether it can be loaded, without reading weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from mmduet.errors import CheckpointError, ModelNotFoundError, OptionError
from mmduet.files import visible_files
from mmduet.model.adapter import CONFIG as ADAPTER_CONFIG
from mmduet.model.adapter import Adapter, fit_adapter, read_adapter
from mmduet.model.checkpoint import MANIFEST, build_meta_model, describe_checkpoint, read_tokenizer
from mmduet.model.config import DuetConfig
from mmduet.model.network import HEADS
from mmduet.model.tensor_files import StoredTensor
from mmduet.model.weight_loading import check_tensors, required_shapes
from mmduet.nano import BUNDLED

Kind = Literal["mmduet", "llava-onevision", "adapter"]


@dataclass(frozen=True)
class Inspection:
    """The contents of a directory. ``problem`` is why it cannot be loaded, or None. Sizes are those of the files."""

    path: Path
    kind: Kind
    problem: str | None
    heads: tuple[str, ...]
    dtype: torch.dtype | None = None
    parameters: int = 0
    weight_bytes: int = 0
    config: DuetConfig | None = None
    rank: int = 0  # highest rank of an adapter's LoRA matrices

    def stream_bytes(self, frames: int) -> int:
        """Return the bytes of keys and values that ``frames`` frames of one session take, in the stored dtype."""
        if self.config is None or self.dtype is None:
            return 0
        return frames * self.config.frame_tokens * self.config.kv_bytes_per_token(self.dtype.itemsize)


def inspect_directory(directory: str | Path, adapter: str | Path | None = None, pickles: bool = False) -> Inspection:
    """Inspect a checkpoint, optionally with an ``adapter``, or an adapter. Raises ``ModelError`` for other directories."""
    root = BUNDLED.get(str(directory), Path(directory))
    if not root.is_dir():
        raise ModelNotFoundError(f"{root} is neither a directory nor a bundled model; check the name")
    if (root / ADAPTER_CONFIG).exists():
        if adapter is not None:
            raise OptionError(
                f"{root} is itself an adapter, so the adapter {adapter} cannot be applied to it; give a base model as DIR"
            )
        return _inspect_adapter(root, read_adapter(root))
    applied = None if adapter is None else read_adapter(adapter)
    adapter_tensors = applied.replacements if applied else {}
    config, files, tensors = describe_checkpoint(root, pickles)
    model = build_meta_model(root, config)
    try:
        check_tensors(files, tensors, required_shapes(model), adapter_tensors)
        if applied is not None:
            fit_adapter(applied, model)
        read_tokenizer(root, config.text.vocab_size)
        problem = None
    except CheckpointError as error:
        problem = str(error)
    return Inspection(
        root,
        "mmduet" if (root / MANIFEST).exists() else "llava-onevision",
        problem,
        tuple(name for name in HEADS if f"heads.{name}.weight" in {*tensors, *adapter_tensors}),
        most_common_dtype(tensors),
        sum(parameter.numel() for parameter in model.parameters()),
        sum(tensor.nbytes for tensor in tensors.values()),
        config,
    )


def most_common_dtype(tensors: dict[str, StoredTensor]) -> torch.dtype:
    """Return the dtype that takes most of the stored bytes."""
    bytes_by_dtype: Counter[torch.dtype] = Counter()
    for entry in tensors.values():
        bytes_by_dtype[entry.dtype] += entry.nbytes
    return bytes_by_dtype.most_common(1)[0][0]


def resolve_dtype(dtype: str, model: str, pickles: bool = False) -> torch.dtype:
    """Return the dtype of that name. ``stored`` is that of the model's files, or float32 for a model without files."""
    if dtype != "stored":
        found: torch.dtype = getattr(torch, dtype)
        return found
    root = BUNDLED.get(model, Path(model))
    return most_common_dtype(describe_checkpoint(root, pickles)[2]) if root.is_dir() else torch.float32


def fingerprint(name: str | Path) -> str:
    """Return a short hash of a model's or adapter's files: their names, sizes, times, and the content of JSON files."""
    root = BUNDLED.get(str(name), Path(name))
    digest = sha256(str(name if not root.is_dir() else "").encode())
    for file in visible_files(root) if root.is_dir() else ():
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        digest.update(file.read_bytes() if file.suffix == ".json" else str(file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


def _inspect_adapter(root: Path, adapter: Adapter) -> Inspection:
    tensors = [t for pair in adapter.lora_pairs.values() for t in (pair.down, pair.up)] + [
        *adapter.replacements.values()
    ]
    return Inspection(
        root,
        "adapter",
        None,
        tuple(name for name in HEADS if f"heads.{name}.weight" in adapter.replacements),
        tensors[0].dtype if tensors else None,
        sum(tensor.numel() for tensor in tensors),
        sum(tensor.nbytes for tensor in tensors),
        rank=max((pair.down.shape[0] for pair in adapter.lora_pairs.values()), default=0),
    )
