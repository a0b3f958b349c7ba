"""What a directory holds and whether it would load, from its descriptions and its tensors' names; no weights are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from mmduet.errors import CheckpointError, ModelNotFoundError, OptionError
from mmduet.model.adapter import CONFIG as ADAPTER_CONFIG
from mmduet.model.adapter import Adapter, check_adapter, read_adapter
from mmduet.model.checkpoint import MANIFEST, describe_checkpoint, empty_model, read_tokenizer
from mmduet.model.config import DuetConfig
from mmduet.model.network import HEADS
from mmduet.model.tensor_files import Stored
from mmduet.model.weight_loading import check, required_shapes
from mmduet.nano import BUNDLED

Kind = Literal["mmduet", "llava-onevision", "adapter"]


@dataclass(frozen=True)
class Inspection:
    """``problem``: why it would not load, None where it would. Sizes are bytes as stored."""

    path: Path
    kind: Kind
    problem: str | None
    heads: tuple[str, ...]
    dtype: torch.dtype | None = None
    parameters: int = 0
    weight_bytes: int = 0
    config: DuetConfig | None = None
    rank: int = 0  # of an adapter

    def stream_bytes(self, frames: int) -> int:
        """Keys and values of ``frames`` frames on one stream, in the stored number type."""
        if self.config is None or self.dtype is None:
            return 0
        return frames * self.config.frame_tokens * self.config.kv_bytes_per_token(self.dtype.itemsize)


def inspect_directory(directory: str | Path, adapter: str | Path | None = None, pickles: bool = False) -> Inspection:
    """Look into a checkpoint (as it would be with ``adapter``) or an adapter. Raises ``ModelError`` for neither."""
    root = BUNDLED.get(str(directory), Path(directory))
    if not root.is_dir():
        raise ModelNotFoundError(f"there is no directory {root}, and no bundled model of that name")
    if (root / ADAPTER_CONFIG).exists():
        if adapter is not None:
            raise OptionError(f"{root} is an adapter, and is given the adapter {adapter}; give the base as DIR")
        return _adapter(root, read_adapter(root))
    change = None if adapter is None else read_adapter(adapter)
    config, files, named = describe_checkpoint(root, pickles)
    model = empty_model(root, config)
    try:
        check(files, named, required_shapes(model), change.replacements if change else ())
        if change is not None:
            check_adapter(change, model)
        read_tokenizer(root, config.text.vocab_size)
        problem = None
    except CheckpointError as error:
        problem = str(error)
    return Inspection(
        root,
        "mmduet" if (root / MANIFEST).exists() else "llava-onevision",
        problem,
        tuple(name for name in HEADS if f"heads.{name}.weight" in {*named, *(change.replacements if change else ())}),
        most_common_dtype(named),
        sum(parameter.numel() for parameter in model.parameters()),
        sum(entry.size for entry in named.values()),
        config,
    )


def most_common_dtype(named: dict[str, Stored]) -> torch.dtype:
    """The number type that most of the weights are stored in."""
    bytes_of: Counter[torch.dtype] = Counter()
    for entry in named.values():
        bytes_of[entry.dtype] += entry.size
    return bytes_of.most_common(1)[0][0]


def number_type(wanted: str, name: str, pickles: bool = False) -> torch.dtype:
    """The type called ``wanted``; ``stored``: that of the model ``name`` on disk, float32 for one that lies nowhere."""
    if wanted != "stored":
        named: torch.dtype = getattr(torch, wanted)
        return named
    root = BUNDLED.get(name, Path(name))
    return most_common_dtype(describe_checkpoint(root, pickles)[2]) if root.is_dir() else torch.float32


def fingerprint(name: str | Path) -> str:
    """Short and the same as long as a model's or an adapter's files are: their names, sizes, times, and descriptions."""
    root = BUNDLED.get(str(name), Path(name))
    digest = sha256(str(name if not root.is_dir() else "").encode())
    for file in sorted(root.iterdir()) if root.is_dir() else ():
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        digest.update(file.read_bytes() if file.suffix == ".json" else str(file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


def _adapter(root: Path, adapter: Adapter) -> Inspection:
    tensors = [tensor for pair in adapter.lora_pairs.values() for tensor in pair] + [*adapter.replacements.values()]
    return Inspection(
        root,
        "adapter",
        None,
        tuple(name for name in HEADS if f"heads.{name}.weight" in adapter.replacements),
        tensors[0].dtype if tensors else None,
        sum(tensor.numel() for tensor in tensors),
        sum(tensor.nbytes for tensor in tensors),
        rank=next((down.shape[0] for down, _ in adapter.lora_pairs.values()), 0),
    )
