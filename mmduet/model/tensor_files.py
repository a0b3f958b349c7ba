"""The tensors of a checkpoint directory, one at a time: safetensors, whole or in shards, pickles only where they are asked for.

Every tensor is copied out of its file and the file let go again, so that memory never holds the weights twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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

INDEX = "model.safetensors.index.json"
Shape = tuple[int, ...]
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies, under which name, and what it is."""

    file: Path
    name: str
    shape: Shape
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFiles:
    """Name to ``Stored`` for everything in a directory. ``pickles``: read ``.bin`` files too."""

    def __init__(self, directory: str | Path, pickles: bool = False) -> None:
        self.root = Path(directory)
        self.stored: dict[str, Stored] = {}
        self._unpickled: dict[Path, dict[str, Tensor]] = {}
        for file in _files(self.root, pickles):
            for entry in self._entries(file):
                if entry.name in self.stored:
                    other = self.stored[entry.name].file.name
                    raise CheckpointError(
                        f"{file} holds {entry.name}, and so does {other}; keep only one of the two files"
                    )
                self.stored[entry.name] = entry
        _check_index(self.root, self.stored)

    def read_into(self, target: Tensor, entry: Stored) -> None:
        """Copy a tensor into ``target``, in the target's own type and on its own device."""
        if entry.file in self._unpickled:
            target.copy_(self._unpickled[entry.file][entry.name])
            return
        with _opened(entry.file) as file:
            target.copy_(file.get_tensor(entry.name))

    def _entries(self, file: Path) -> Iterator[Stored]:
        if file.suffix == ".bin":
            tensors = self._unpickled[file] = _unpickle(file)
            yield from (Stored(file, name, tuple(t.shape), t.dtype) for name, t in tensors.items())
            return
        with _opened(file) as opened:
            for name in opened.keys():  # noqa: SIM118, not a mapping
                part = opened.get_slice(name)
                yield Stored(file, name, tuple(part.get_shape()), _dtype(file, name, part.get_dtype()))


def _dtype(file: Path, name: str, code: str) -> torch.dtype:
    try:
        return DTYPES[code]
    except KeyError:
        raise CheckpointError(f"{name} in {file} is of type {code}; only {', '.join(DTYPES)} are read") from None


def _files(root: Path, pickles: bool) -> list[Path]:
    files = sorted(root.glob("*.safetensors"))
    if files:
        return files
    bins = sorted(root.glob("pytorch_model*.bin"))
    if bins and pickles:
        return bins
    if bins:
        raise CheckpointError(
            f"{root} holds its weights as pickles ({bins[0].name}), which are not a safe format; if you trust where they come "
            "from, ask for them: --allow-pickle"
        )
    raise CheckpointError(f"{root} holds no weights: no *.safetensors file is in it")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}; fetch it again") from error


#: What spoilt pickles raise as they are read; want of memory is none of it.
UNREADABLE = (
    UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError,
    AssertionError,
)  # fmt: skip


def _unpickle(file: Path) -> dict[str, Tensor]:
    try:  # files of the old format cannot be mapped
        tensors: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except UNREADABLE as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}; fetch it again, as safetensors if there are any"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{file} is not a plain table of tensors; fetch the model as safetensors")
    return tensors


def _check_index(root: Path, stored: dict[str, Stored]) -> None:
    """What the shards' index promises has to be there, in the file that it names."""
    if not (root / INDEX).exists():
        return
    try:
        promised: dict[str, str] = json.loads((root / INDEX).read_text())["weight_map"]
        absent = [f"{name} in {file}" for name, file in promised.items() if _file_of(stored, name) != file]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{root / INDEX} cannot be read: {error}; fetch it again") from error
    if absent:
        raise CheckpointError(
            f"{root / INDEX} names what is not there: {', '.join(absent[:8])}; fetch the missing shards"
        )


def _file_of(stored: dict[str, Stored], name: str) -> str:
    return stored[name].file.name if name in stored else ""
