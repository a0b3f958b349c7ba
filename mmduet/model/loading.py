"""Load a model by name: a bundled one, a directory, or ``random:SIZE``."""

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
    """A network and its tokenizer, ready to run."""

    network: DuetModel
    tokenizer: Tokenizer
    adapters: AdapterBank | None = None  # unmerged adapters, of which each session chooses one

    @property
    def config(self) -> DuetConfig:
        """The description of the model."""
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
    """Load ``nano``, ``random:SIZE`` or a checkpoint directory.

    Args:
        name: Name of a bundled or random model, or path of a directory.
        dtype: Type of the weights in memory.
        device: PyTorch device of the weights.
        adapter: PEFT LoRA directory that is merged into the weights.
        adapters: Further adapters by name. They stay unmerged; a session chooses one by ``SessionOptions.adapter``.
        quantized: Quantise the language model to 8 or 4 bits after ``adapter`` has been merged. Peak memory is that of the
            model before quantisation.
        pickles: Also read ``.bin`` weights.
        progress: Called with the number of tensors read and the total.

    Raises ``ModelNotFoundError`` if the model or an adapter does not exist, ``CheckpointError`` if one cannot be loaded or does
    not fit, or if an adapter changes parts that all sessions share, and ``OptionError`` for an invalid ``quantized`` or if its
    library is not installed.
    """
    merged = None if adapter is None else read_adapter(adapter)  # before the weights, so that a wrong name fails early
    unmerged = {key: read_adapter(path) for key, path in (adapters or {}).items()}
    whole_modules = [set(each.replacements) for each in unmerged.values()]
    read = partial(
        load_checkpoint,
        dtype=dtype,
        device=device,
        adapter_tensors={
            *(merged.replacements if merged else ()),
            *(set.intersection(*whole_modules) if whole_modules else ()),
        },
        pickles=pickles,
        progress=progress,
    )
    model = _load(name, dtype, device, read)
    if merged is not None:
        merge_adapter(model.network, merged)
        model.network.config = replace(model.config, domain=None)  # the adapter was trained on other footage
    bank = AdapterBank(model.network, unmerged) if unmerged else None  # before quantisation changes the layers' shapes
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
        raise ModelNotFoundError(f"model {name!r} is neither a directory nor one of {names}; check the name")
    return LoadedModel(*read(directory))
