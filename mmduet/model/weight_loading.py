"""Load tensors from disk, one at a time, into a network on the meta device; errors name everything that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn

from mmduet.errors import CheckpointError
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import StoredTensor, TensorFiles

LM_HEAD = "lm_head.weight"
Progress = Callable[[int, int], None]  # number of tensors read, total
MAX_PROBLEMS = 20
"""Tensors that an error lists; a wrong description makes hundreds of them wrong."""


def load_weights(
    model: DuetModel,
    files: TensorFiles,
    stored: Mapping[str, StoredTensor],
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    adapter_tensors: Collection[str] = (),
    progress: Progress | None = None,
) -> None:
    """Allocate and load every parameter of ``model``, which is on the meta device.

    ``stored`` has the tensors by internal key. ``adapter_tensors`` may be missing, because an adapter provides them afterwards.
    Raises ``CheckpointError`` naming every missing, unexpected and misshapen tensor.
    """
    required = required_shapes(model)
    check_tensors(files, stored, required, adapter_tensors)
    report = progress or (lambda done, total: None)
    for done, name in enumerate(required, start=1):
        tensor = torch.empty(required[name], dtype=dtype, device=device)
        if name in stored:
            files.read_into(tensor, stored[name])
        else:
            tensor.fill_(torch.nan)  # so that use before the adapter is loaded cannot go unnoticed
        _set_parameter(model, name, tensor)
        report(done, len(required))
    if model.config.text.tied:
        model.lm_head.weight = model.lm.embed_tokens.weight
    _make_buffers(model, device)


def required_shapes(model: DuetModel) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a checkpoint of ``model``. A tied language head is stored once, as the embedding."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if model.config.text.tied:
        shapes.pop(LM_HEAD)
    return shapes


def check_tensors(
    files: TensorFiles,
    stored: Mapping[str, StoredTensor],
    required: Mapping[str, tuple[int, ...]],
    adapter_tensors: Collection[str] = (),
) -> None:
    """Raise ``CheckpointError`` unless ``stored`` has exactly the ``required`` tensors; ``adapter_tensors`` may be missing."""
    missing = sorted(required.keys() - stored.keys() - set(adapter_tensors))
    problems = [f"missing {name} {required[name]}" for name in missing]
    problems += [
        f"unexpected {_describe_source(stored[name])} {stored[name].shape}"
        for name in sorted(stored.keys() - required.keys())
    ]
    problems += [
        f"misshapen {_describe_source(stored[name])}: expected {required[name]}, found {stored[name].shape}"
        for name in sorted(required.keys() & stored.keys())
        if required[name] != stored[name].shape
    ]
    if problems:
        only_heads = len(missing) == len(problems) and all(name.startswith("heads.") for name in missing)
        hint = (
            "; a base model has no heads: load it with an adapter that has them (with several unmerged adapters, all must)"
            if only_heads
            else ""
        )
        more = len(problems) - MAX_PROBLEMS
        listed = "; ".join(problems[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"the tensors of {files.root} do not match its description: {listed}{hint}")


def _describe_source(entry: StoredTensor) -> str:
    return f"{entry.name} in {entry.file.name}"


def _set_parameter(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def _make_buffers(model: DuetModel, device: torch.device | str) -> None:
    """Give the buffers that no checkpoint stores (position indices, rotary frequencies) their values."""
    config, rotary = model.lm.config, model.lm.rotary_emb
    model.lm.rotary_emb = type(rotary)(config=config).to(device)
    embeddings = model.tower.siglip.embeddings
    if model.config.vision.family == "siglip":
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand((1, -1))
