"""Report what a model or adapter consists of and whether it can be loaded, without reading weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from mmduet.errors import CheckpointError, ModelError
from mmduet.files import visible_files
from mmduet.model.adapter import fit_adapter, read_adapter
from mmduet.model.checkpoint import MANIFEST, build_meta_model, describe_checkpoint, read_tokenizer
from mmduet.model.config import DuetConfig
from mmduet.model.network import HEADS
from mmduet.model.placement import most_common_dtype
from mmduet.model.presets import random_config, stored_dtype
from mmduet.model.source import FoundFiles, ModelSource, find_model, is_adapter
from mmduet.model.weight_loading import check_tensors, required_shapes

Kind = Literal["mmduet", "llava-onevision", "adapter", "random"]


@dataclass(frozen=True)
class Inspection:
    """What a model consists of. ``problem`` is why it cannot be loaded, or None. Sizes are those of the files.

    ``revisions`` are the commits of what comes from the hub, as ``owner/name@commit``.
    """

    path: Path
    kind: Kind
    problem: str | None
    heads: tuple[str, ...]
    dtype: torch.dtype | None = None
    parameters: int = 0
    weight_bytes: int = 0
    config: DuetConfig | None = None
    revisions: tuple[str, ...] = ()
    rank: int = 0  # highest rank of an adapter's LoRA matrices

    def stream_bytes(self, frames: int) -> int:
        """Return the bytes of keys and values that ``frames`` frames of one session take, in the stored dtype."""
        if self.config is None or self.dtype is None:
            return 0
        return frames * self.config.frame_tokens * self.config.kv_bytes_per_token(self.dtype.itemsize)


def inspect_model(model: str | Path, adapter: str | Path | None = None, pickles: bool = False) -> Inspection:
    """Inspect a model, optionally with an ``adapter``, or the directory of an adapter alone.

    Models on the hub are downloaded, with the base if they are adapters. Raises ``ModelError`` if there is no such model.
    """
    if adapter is None and is_adapter([file.name for file in visible_files(Path(model))]):
        return _inspect_adapter(Path(model), pickles)
    return _inspect_source(find_model(model, adapter, pickles=pickles), pickles)


def _inspect_source(source: ModelSource, pickles: bool) -> Inspection:
    if source.base is None:
        return _inspect_random(source, pickles)
    return replace(_inspect_checkpoint(source, source.base.path, pickles), revisions=source.revisions)


def _inspect_random(source: ModelSource, pickles: bool) -> Inspection:
    size = source.random_size or ""
    config, dtype = random_config(size), stored_dtype(size)
    applied = None if source.adapter is None else read_adapter(source.adapter.path, pickles)
    model = build_meta_model(Path(config.name), config)
    problem = None if applied is None else _problem_of(partial(fit_adapter, applied, model))
    count = sum(parameter.numel() for parameter in model.parameters())
    return Inspection(Path(config.name), "random", problem, HEADS, dtype, count, dtype.itemsize * count, config)


def _problem_of(check: Callable[[], object]) -> str | None:
    """Return the message of the ``CheckpointError`` that ``check`` raises, None if it raises none."""
    try:
        check()
    except CheckpointError as error:
        return str(error)
    return None


def _inspect_checkpoint(source: ModelSource, root: Path, pickles: bool) -> Inspection:
    applied = None if source.adapter is None else read_adapter(source.adapter.path, pickles)
    adapter_tensors = applied.replacements if applied else {}
    config, files, tensors = describe_checkpoint(root, pickles)
    model = build_meta_model(root, config)

    def check() -> None:
        check_tensors(files, tensors, required_shapes(model), adapter_tensors)
        if applied is not None:
            fit_adapter(applied, model)
        read_tokenizer(root, config.text.vocab_size)

    return Inspection(
        root,
        "mmduet" if (root / MANIFEST).exists() else "llava-onevision",
        _problem_of(check),
        tuple(name for name in HEADS if f"heads.{name}.weight" in {*tensors, *adapter_tensors}),
        most_common_dtype(tensors),
        sum(parameter.numel() for parameter in model.parameters()),
        sum(tensor.nbytes for tensor in tensors.values()),
        config,
    )


def fingerprint(files: FoundFiles | str) -> str:
    """Return a short hash of a model or an adapter.

    That is of the name of a random model, of a commit on the hub, or of the names, sizes and times of files in a directory and
    the content of those in JSON.
    """
    name = files if isinstance(files, str) else files.revision
    digest = sha256((name or "").encode())
    for file in visible_files(files.path) if isinstance(files, FoundFiles) and name is None else ():
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        digest.update(file.read_bytes() if file.suffix == ".json" else str(file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


def _inspect_adapter(root: Path, pickles: bool) -> Inspection:
    """Describe the adapter alone. Its problem is why it cannot be loaded with the base that it names."""
    adapter = read_adapter(root, pickles)
    problem, revisions = _check_with_base(root, pickles)
    tensors = [t for pair in adapter.lora_pairs.values() for t in (pair.down, pair.up)] + [
        *adapter.replacements.values()
    ]
    return Inspection(
        root,
        "adapter",
        problem,
        tuple(name for name in HEADS if f"heads.{name}.weight" in adapter.replacements),
        tensors[0].dtype if tensors else None,
        sum(tensor.numel() for tensor in tensors),
        sum(tensor.nbytes for tensor in tensors),
        revisions=revisions,
        rank=max((pair.down.shape[0] for pair in adapter.lora_pairs.values()), default=0),
    )


def _check_with_base(root: Path, pickles: bool) -> tuple[str | None, tuple[str, ...]]:
    """Return why an adapter cannot be loaded as a model, or None, and the commits of its base."""
    try:
        merged = _inspect_source(find_model(root, pickles=pickles), pickles)
    except ModelError as error:
        return str(error), ()
    return merged.problem, merged.revisions
