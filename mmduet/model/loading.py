"""From a model's name to a ready model: bundled names, directories, ``random:SIZE``; nothing is ever chosen in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mmduet.errors import ModelNotFoundError
from mmduet.model.adapter import merge_adapter, read_adapter
from mmduet.model.adapter_bank import AdapterBank
from mmduet.model.checkpoint import load_checkpoint
from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel
from mmduet.model.presets import byte_tokenizer, random_config, random_model
from mmduet.model.quantize import Quantization, quantize
from mmduet.model.tokenizer import Tokenizer
from mmduet.model.weight_loading import Progress
from mmduet.nano import BUNDLED


@dataclass(frozen=True)
class LoadedModel:
    """Weights and tokenizer, ready to run."""

    network: DuetModel
    tokenizer: Tokenizer
    adapters: AdapterBank | None = None  # kept apart, chosen per session

    @property
    def config(self) -> DuetConfig:
        """The model's description."""
        return self.network.config


def load_model(
    name: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    adapter: str | Path | None = None,
    *,
    adapters: Mapping[str, str | Path] | None = None,
    quantized: Quantization | None = None,
    pickles: bool = False,
    progress: Progress | None = None,
) -> LoadedModel:
    """``nano``, ``random:SIZE`` or a checkpoint directory; ``adapter``: a PEFT LoRA directory, merged into it.

    ``adapters``: others, by name, that are kept apart, over what that makes; a session chooses one by ``options.adapter``.
    ``quantized``: hold the language model's matrices in 8 or 4 bits, once ``adapter`` has been merged; at its most loading
    takes what the unquantised model does.
    ``pickles``: read ``.bin`` weights too. ``progress`` is called with the number of tensors read and the total.

    Raises ``ModelNotFoundError`` where there is no such model or adapter, ``CheckpointError`` where one does not load, does not
    fit or changes what all share, ``OptionError`` for another ``quantized`` or where its library is not installed.
    """
    change = None if adapter is None else read_adapter(adapter)  # first: a wrong name costs no loading
    apart = {name: read_adapter(path) for name, path in (adapters or {}).items()}
    brought = [set(each.replacements) for each in apart.values()]
    read = partial(
        load_checkpoint,
        dtype=dtype,
        device=device,
        given={*(change.replacements if change else ()), *(set.intersection(*brought) if brought else ())},
        pickles=pickles,
        progress=progress,
    )
    model = _load(name, dtype, device, read)
    if change is not None:
        merge_adapter(model.network, change)
    bank = AdapterBank(model.network, apart) if apart else None  # while matrices have their shapes
    if quantized is not None:
        quantize(model.network, quantized)
    return replace(model, adapters=bank)


def _load(
    name: str, dtype: torch.dtype, device: str, read: Callable[[Path], tuple[DuetModel, Tokenizer]]
) -> LoadedModel:
    if name.startswith("random:"):
        network = random_model(random_config(name.removeprefix("random:")), dtype=dtype, device=device)
        return LoadedModel(network.requires_grad_(False), byte_tokenizer())
    directory = BUNDLED.get(name, Path(name))
    if not directory.is_dir():
        names = ", ".join([*BUNDLED, "random:tiny", "random:0.5b", "random:7b"])
        raise ModelNotFoundError(f"there is no model {name!r}: neither a directory nor one of {names}")
    return LoadedModel(*read(directory))
