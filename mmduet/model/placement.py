"""Where a model's weights go: the device and the number type, from the options and the model's files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from mmduet.model.checkpoint import build_meta_model, describe_checkpoint
from mmduet.model.devices import resolve_device, resolve_dtype
from mmduet.model.presets import random_config, stored_dtype
from mmduet.model.source import ModelSource
from mmduet.model.tensor_files import StoredTensor


@dataclass(frozen=True)
class Placement:
    """Device and number type of weights in memory."""

    device: torch.device
    dtype: torch.dtype


def resolve_placement(
    source: ModelSource,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "auto",
    *,
    pickles: bool = False,
) -> Placement:
    """Return where ``load_model`` puts the weights of ``source`` for these options. No weights are read.

    Raises ``OptionError`` for an unavailable device or a number type that it does not support, and ``CheckpointError`` if the
    files cannot be described.
    """
    resolved = resolve_device(device)
    if isinstance(dtype, torch.dtype) or dtype not in ("auto", "stored"):
        return Placement(resolved, resolve_dtype(dtype, resolved, torch.float32, 0))
    return Placement(resolved, resolve_dtype(dtype, resolved, *_describe_weights(source, pickles)))


def _describe_weights(source: ModelSource, pickles: bool) -> tuple[torch.dtype, int]:
    """Return the stored number type and the number of parameters of a model."""
    if source.base is None:
        size = source.random_size or ""
        model = build_meta_model(Path(size), random_config(size))
        return stored_dtype(size), sum(parameter.numel() for parameter in model.parameters())
    tensors = describe_checkpoint(source.base.path, pickles)[2]
    return most_common_dtype(tensors), sum(prod(tensor.shape) for tensor in tensors.values())


def most_common_dtype(tensors: Mapping[str, StoredTensor]) -> torch.dtype:
    """Return the dtype that takes most of the stored bytes."""
    bytes_by_dtype: Counter[torch.dtype] = Counter()
    for entry in tensors.values():
        bytes_by_dtype[entry.dtype] += entry.nbytes
    return bytes_by_dtype.most_common(1)[0][0]
