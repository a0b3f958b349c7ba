"""Read the tensors of a checkpoint directory one at a time, from safetensors files or, if allowed, from pickles.

A file is closed after every tensor copied from it, so that memory does not hold the weights twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmduet.errors import CheckpointError
from mmduet.files import visible_files
from mmduet.model.config_files import read_json_object

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
ARCHIVE = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")
Shape = tuple[int, ...]
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk: its file, its name there, its shape and dtype."""

    file: Path
    name: str
    shape: Shape
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFiles:
    """The tensors of a directory by their names there. With ``pickles``, ``.bin`` files are read if there are no others."""

    def __init__(self, directory: str | Path, pickles: bool = False) -> None:
        self.root = Path(directory)
        self.tensors: dict[str, StoredTensor] = {}
        self._unpickled: dict[Path, dict[str, Tensor]] = {}
        names = [file.name for file in visible_files(self.root)]
        for file in (self.root / name for name in choose_weight_files(self.root, names, pickles)):
            for entry in self._entries(file):
                if entry.name in self.tensors:
                    other = self.tensors[entry.name].file.name
                    raise CheckpointError(
                        f"{file} and {other} both contain {entry.name}; keep only one of the two files"
                    )
                self.tensors[entry.name] = entry
        _check_index(self.root, self.tensors)

    def read_into(self, target: Tensor, entry: StoredTensor) -> None:
        """Copy a tensor into ``target``, converted to its dtype and device."""
        if entry.file in self._unpickled:
            target.copy_(self._unpickled[entry.file][entry.name])
            return
        with _open_safetensors(entry.file) as file:
            target.copy_(file.get_tensor(entry.name))

    def _entries(self, file: Path) -> Iterator[StoredTensor]:
        if file.suffix == ".bin":
            tensors = self._unpickled[file] = read_pickle(file)
            yield from (StoredTensor(file, name, tuple(t.shape), t.dtype) for name, t in tensors.items())
            return
        with _open_safetensors(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                part = opened.get_slice(name)
                yield StoredTensor(file, name, tuple(part.get_shape()), _dtype(file, name, part.get_dtype()))


def _dtype(file: Path, name: str, code: str) -> torch.dtype:
    try:
        return DTYPES[code]
    except KeyError:
        raise CheckpointError(f"{name} in {file} has dtype {code}; supported are {', '.join(DTYPES)}") from None


def choose_weight_files(source: object, names: Collection[str], pickles: bool) -> list[str]:
    """Return the files of one copy of the weights, of which directories and repositories may have several.

    Pickles are chosen only if there are no safetensors. Raises ``CheckpointError`` naming ``source`` if none may be read.
    """
    weights, archives = model_weights(names), sorted(name for name in names if ARCHIVE.fullmatch(name))
    shards = [name for name in weights if SHARD.fullmatch(name)]
    if INDEX in names and shards:
        return shards
    if weights:
        return [SINGLE] if SINGLE in weights else weights
    if not archives:
        raise CheckpointError(f"{source} contains no *.safetensors file; check the name")
    if not pickles:
        raise pickle_error(source, archives[0])
    return archives


def model_weights(names: Collection[str]) -> list[str]:
    """Return the safetensors files that may hold weights of a model: at the top level, and not those of an adapter."""
    found = (name for name in names if re.fullmatch(r"[^./][^/]*\.safetensors", name))
    return sorted(name for name in found if not name.startswith("adapter_model"))


def has_model_weights(names: Collection[str]) -> bool:
    """Return whether there are weights of a model among files of these names."""
    return bool(model_weights(names)) or any(map(ARCHIVE.fullmatch, names))


def pickle_error(source: object, file: str) -> CheckpointError:
    """Return the error for weights that exist only as pickles."""
    return CheckpointError(
        f"{source} contains its weights as pickles ({file}), which can run code when they are loaded; if you trust their "
        "source, use --allow-pickle"
    )


@contextmanager
def _open_safetensors(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}; download it again") from error


#: What loading a damaged pickle may raise. MemoryError is not included: it is not the file's fault.
UNPICKLING_ERRORS = (
    UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError,
    AssertionError,
)  # fmt: skip


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Read a dictionary of tensors, without running code. Raise ``CheckpointError`` if it is damaged or something else."""
    try:  # the old format, which is not a zip file, cannot be memory-mapped
        tensors: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except UNPICKLING_ERRORS as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}; download it again, if possible as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{file} is not a dictionary of tensors; download the model as safetensors")
    return tensors


def _check_index(root: Path, stored: dict[str, StoredTensor]) -> None:
    """Raise ``CheckpointError`` unless every tensor of the shards' index is in the file that the index names."""
    if not (root / INDEX).exists():
        return
    try:
        indexed: dict[str, str] = read_json_object(root / INDEX)["weight_map"]
        missing = [f"{name} in {file}" for name, file in indexed.items() if _file_of(stored, name) != file]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{root / INDEX} cannot be read: {error}; download it again") from error
    if missing:
        raise CheckpointError(
            f"{root / INDEX} names missing tensors: {', '.join(missing[:8])}; download the missing shards"
        )


def _file_of(stored: dict[str, StoredTensor], name: str) -> str:
    return stored[name].file.name if name in stored else ""
