"""Fills a network built without memory from tensors on disk, one at a time; whatever does not fit is named, all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn

from mmduet.errors import CheckpointError
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import Stored, TensorFiles

LM_HEAD = "lm_head.weight"
Progress = Callable[[int, int], None]  # tensors read, of how many


def load_weights(
    model: DuetModel,
    files: TensorFiles,
    named: Mapping[str, Stored],
    dtype: torch.dtype,
    device: str,
    *,
    given: Collection[str] = (),
    progress: Progress | None = None,
) -> None:
    """Give every parameter of ``model``, which lies on ``meta``, its memory and its values.

    ``named``: what is stored, by our names. ``given``: parameters that somebody else fills afterwards, wherever they are
    absent here. Raises ``CheckpointError`` naming every missing, unexpected and misshapen tensor.
    """
    required = required_shapes(model)
    check(files, named, required, given)
    report = progress or (lambda done, total: None)
    for done, name in enumerate(required, start=1):
        memory = torch.empty(required[name], dtype=dtype, device=device)
        if name in named:
            files.read_into(memory, named[name])
        else:
            memory.fill_(torch.nan)  # use before it is loaded shall notice
        _set_tensor(model, name, memory)
        report(done, len(required))
    if model.config.text.tied:
        model.lm_head.weight = model.lm.embed_tokens.weight
    _make_buffers(model, device)


def required_shapes(model: DuetModel) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint of ``model`` holds; a tied language head is stored once, as the embedding."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if model.config.text.tied:
        shapes.pop(LM_HEAD)
    return shapes


def check(
    files: TensorFiles,
    named: Mapping[str, Stored],
    required: Mapping[str, tuple[int, ...]],
    given: Collection[str] = (),
) -> None:
    """Raise ``CheckpointError`` unless ``named`` is what is ``required``, to the shape."""
    missing = sorted(required.keys() - named.keys() - set(given))
    faults = [f"missing {name} {required[name]}" for name in missing]
    faults += [
        f"unexpected {_describe_source(named[name])} {named[name].shape}"
        for name in sorted(named.keys() - required.keys())
    ]
    faults += [
        f"misshapen {_describe_source(named[name])}: expected {required[name]}, found {named[name].shape}"
        for name in sorted(required.keys() & named.keys())
        if required[name] != named[name].shape
    ]
    if faults:
        only_heads = len(missing) == len(faults) and all(name.startswith("heads.") for name in missing)
        hint = (
            "; a base has no heads of its own: give the adapter that brings them; of several kept apart, each has to"
            if only_heads
            else ""
        )
        raise CheckpointError(f"{files.root} does not fit its description: {'; '.join(faults)}{hint}")


def _describe_source(entry: Stored) -> str:
    return f"{entry.name} in {entry.file.name}"


def _set_tensor(model: nn.Module, name: str, memory: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(memory, requires_grad=False))


def _make_buffers(model: DuetModel, device: str) -> None:
    """Give the buffers that no checkpoint stores (position indices, rotary frequencies) their values."""
    config, rotary = model.lm.config, model.lm.rotary_emb
    model.lm.rotary_emb = type(rotary)(config=config).to(device)
    embeddings = model.tower.siglip.embeddings
    if model.config.vision.family == "siglip":
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand((1, -1))
