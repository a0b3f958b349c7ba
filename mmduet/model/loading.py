"""Load a model by name: a bundled one, a directory, ``OWNER/NAME`` on the hub, or ``random:SIZE``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mmduet.model.adapter import Adapter, merge_adapter, read_adapter
from mmduet.model.adapter_bank import AdapterBank
from mmduet.model.adapter_files import check_base, read_recommended
from mmduet.model.checkpoint import load_checkpoint
from mmduet.model.config import DuetConfig
from mmduet.model.network import HEAD_TENSORS, DuetModel
from mmduet.model.placement import Placement, resolve_placement
from mmduet.model.presets import byte_tokenizer, random_config, random_model
from mmduet.model.quantize import Quantization, TowerQuantization, quantize, quantize_tower
from mmduet.model.source import ModelSource, find_adapter, find_model
from mmduet.model.tokenizer import Tokenizer
from mmduet.model.weight_loading import Progress


@dataclass(frozen=True)
class LoadedModel:
    """A network and its tokenizer, ready to run."""

    network: DuetModel
    tokenizer: Tokenizer
    adapters: AdapterBank | None = None  # unmerged adapters, of which each session chooses one
    source: ModelSource | None = None  # the files that it was loaded from

    @property
    def config(self) -> DuetConfig:
        """The description of the model."""
        return self.network.config


def load_model(
    name: str | Path | ModelSource,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "auto",
    adapter: str | Path | None = None,
    *,
    adapters: Mapping[str, str | Path] | None = None,
    quantized: Quantization | None = None,
    quantized_tower: TowerQuantization | None = None,
    pickles: bool = False,
    allow_missing_heads: bool = False,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load ``nano``, ``random:SIZE``, a checkpoint directory, or a model of the Hugging Face hub.

    Args:
        name: Name of a bundled or random model, path of a directory, or ``OWNER/NAME[@REVISION]``, which is downloaded into
            the hub's cache; an existing directory wins, and ``hf:OWNER/NAME`` is never a directory. Where it is an adapter, the
            base that it names is loaded, too.
        dtype: Number type of the weights and of what is computed with them: "float32", "bfloat16", "float16", "stored" for that
            of the files, or "auto": the stored one on an accelerator, and on a CPU float32 up to a billion parameters, else the
            stored one.
        device: "cpu", "cuda" for the current CUDA device, "cuda:N", "mps" (experimental), or "auto": CUDA if there is a device,
            else the CPU. The whole model is on one device.
        adapter: PEFT LoRA adapter that is merged into the weights: a directory, or ``OWNER/NAME[@REVISION]``.
        adapters: Further adapters by name. They stay unmerged; a session chooses one by ``SessionOptions.adapter``.
        quantized: Quantise the language model to 8 or 4 bits after ``adapter`` has been merged. Peak memory is that of the
            model before quantisation.
        quantized_tower: Quantise the vision tower to 8 bits, likewise.
        pickles: Also read ``.bin`` weights.
        allow_missing_heads: Also load a model without heads, for training; the heads' weights are then NaN.
        progress: Called with the number of tensors read and the total.

    Raises ``ModelNotFoundError`` if the model or an adapter does not exist, ``DownloadError`` if it cannot be downloaded,
    ``CheckpointError`` if one cannot be loaded or does not fit, or if an adapter changes parts that all sessions share, and
    ``OptionError`` for an unavailable device, a number type that it does not support, an invalid ``quantized``, or if a library
    for it is not installed.
    """
    unmerged = {key: read_adapter(find_adapter(path, pickles).path, pickles) for key, path in (adapters or {}).items()}
    source = find_model(name, adapter, pickles=pickles)
    _check_bases(source, unmerged.values())
    placement = resolve_placement(source, device, dtype, pickles=pickles)
    merged = None if source.adapter is None else read_adapter(source.adapter.path, pickles)  # a wrong one fails early
    read = partial(
        load_checkpoint,
        dtype=placement.dtype,
        device=placement.device,
        adapter_tensors=_tensors_of_adapters(merged, list(unmerged.values()), allow_missing_heads),
        pickles=pickles,
        progress=progress,
    )
    model = _load(source, placement, read)
    if merged is not None:
        _merge(model.network, merged)
    bank = AdapterBank(model.network, unmerged) if unmerged else None  # before quantisation changes the layers' shapes
    if quantized is not None:
        quantize(model.network, quantized)
    if quantized_tower is not None:
        quantize_tower(model.network, quantized_tower)
    return replace(model, adapters=bank, source=source)


def _tensors_of_adapters(merged: Adapter | None, unmerged: Sequence[Adapter], allow_missing_heads: bool) -> set[str]:
    """Return the tensors that a base model need not have: those of the merged adapter, and those of all unmerged ones."""
    replaced = [set(adapter.replacements) for adapter in unmerged]
    heads = HEAD_TENSORS if allow_missing_heads else ()
    return {*heads, *(merged.replacements if merged else ()), *(set.intersection(*replaced) if replaced else ())}


def _check_bases(source: ModelSource, unmerged: Iterable[Adapter]) -> None:
    """Report adapters that were trained on another base than that of ``source``."""
    merged = [source.adapter.path] if source.adapter else []
    for path in (*merged, *(adapter.path for adapter in unmerged)):
        check_base(path, source)


def _merge(network: DuetModel, adapter: Adapter) -> None:
    """Merge an adapter, whose settings replace those of the base. It was trained on other footage than the base."""
    merge_adapter(network, adapter)
    recommended = read_recommended(adapter.path) or network.config.recommended
    network.config = replace(network.config, domain=None, recommended=recommended)


def _load(
    source: ModelSource, placement: Placement, read: Callable[[Path], tuple[DuetModel, Tokenizer]]
) -> LoadedModel:
    if source.base is None:
        config = random_config(source.random_size or "")
        network = random_model(config, dtype=placement.dtype, device=placement.device)
        return LoadedModel(network.requires_grad_(False), byte_tokenizer())
    network, tokenizer = read(source.base.path)
    if source.name is not None:
        network.config = replace(network.config, name=source.name)
    return LoadedModel(network, tokenizer)
