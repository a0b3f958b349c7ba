"""Options of every command that loads a model, and the loading itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from mmduet.engine import Engine
    from mmduet.engine.config import EngineConfig
    from mmduet.model import LoadedModel
    from mmduet.model.source import ModelSource

MODEL_METAVAR = "NAME|DIR|OWNER/NAME"
MODEL_HELP = (
    "The model: nano, random:SIZE, the directory of a checkpoint, or OWNER/NAME\\[@REVISION] on the Hugging Face hub, which is "
    "downloaded once."
)
PROFILE_HELP = "fixed: the recommended format and settings; paper: exactly those of the MMDuet paper, faults included."
ALLOW_PICKLE_HELP = "Also read .bin weights. These are pickles and can run code: only use trusted files."
AllowPickle = Annotated[bool, Option("--allow-pickle", help=ALLOW_PICKLE_HELP)]
Adapter = Annotated[
    Path | None,
    Option(
        metavar="DIR|OWNER/NAME",
        help="LoRA adapter saved by PEFT, in a directory or on the hub, which is merged into the model.",
    ),
]
Quantized = Annotated[
    Literal["int8", "nf4", "fp8"] | None,
    Option(
        help="Store the language model's weights in 8 or 4 bits, which saves memory; int8 and nf4 need mmduet\\[quant]."
    ),
]
QuantizedTower = Annotated[
    Literal["int8", "fp8"] | None,
    Option(help="Store the vision tower's weights in 8 bits; int8 also computes with 8-bit integers."),
]
DEVICE_METAVAR = "auto|cpu|cuda|cuda:N|mps"
DEVICE_HELP = "Device that the model runs on; auto: CUDA if there is a device, else the CPU. mps is experimental."
DTYPE_HELP = (
    "Number format of weights and computation; stored: that of the checkpoint; auto: float32 on a CPU for up to a billion "
    "parameters, else stored."
)
ATTENTION_HELP = (
    "How attention over the streams of a step is computed; auto chooses; products is faster and approximate."
)
KV_DTYPE_HELP = "Number format in which keys and values are stored; fp8 takes less memory and changes scores a little."
Device = Annotated[str, Option(metavar=DEVICE_METAVAR, help=DEVICE_HELP)]
Dtype = Annotated[Literal["auto", "stored", "float32", "bfloat16", "float16"], Option(help=DTYPE_HELP)]
Attention = Annotated[Literal["auto", "loop", "padded", "products", "varlen"], Option(help=ATTENTION_HELP)]
KVDtype = Annotated[Literal["auto", "fp8"], Option(help=KV_DTYPE_HELP)]
Threads = Annotated[
    int | None,
    Option(min=1, help="Number of CPU threads.", show_default="1 for small models and few streams, else one per core"),
]
MaxConcurrent = Annotated[
    int,
    Option("--at-once", min=1, help="Maximum number of videos that are processed at the same time; each needs memory."),
]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how a model computes, for commands that load one or start a server that does."""

    device: Device = "auto"
    dtype: Dtype = "auto"
    attention: Attention = "auto"
    kv_dtype: KVDtype = "auto"

    @property
    def compute_arguments(self) -> tuple[str, ...]:
        """The options as arguments of another command."""
        values = {"device": self.device, "dtype": self.dtype, "attention": self.attention, "kv-dtype": self.kv_dtype}
        return tuple(part for name, value in values.items() for part in (f"--{name}", value))

    @property
    def engine_config(self) -> EngineConfig:
        """The options of an engine."""
        from mmduet.engine.config import EngineConfig

        # device and dtype are applied when the model is loaded
        return EngineConfig(attention=self.attention, kv_dtype=self.kv_dtype)


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(ComputeOptions):
    """How a model is loaded into this process."""

    adapter: Adapter = None
    allow_pickle: AllowPickle = False
    quantized: Quantized = None
    quantized_tower: QuantizedTower = None
    threads: Threads = None


def find(
    model: str | ModelSource, adapter: Path | None = None, allow_pickle: bool = False, quiet: bool = False
) -> ModelSource:
    """Return the files of a model; what is on the hub is downloaded, with bars on a terminal and a line elsewhere."""
    from mmduet.model.hub import without_progress
    from mmduet.model.source import find_model

    with without_progress() if quiet else downloads_reported():
        return find_model(model, adapter, pickles=allow_pickle)


def load(
    model: str | ModelSource,
    options: LoadingOptions,
    *,
    adapters: Mapping[str, Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
    streams: int | None = 1,
) -> LoadedModel:
    """Load a model; report to ``progress`` ``(done, total)`` or, without one, display a bar on stderr.

    If it runs on the CPU, PyTorch then uses ``options.threads`` threads, or as many as steps of up to ``streams`` streams need
    (None: any number).
    """
    from mmduet.engine.cpu_threads import set_threads
    from mmduet.model import load_model
    from mmduet.model.source import find_adapter

    source = find(model, options.adapter, options.allow_pickle)
    with downloads_reported():
        named = {name: find_adapter(path, options.allow_pickle).path for name, path in (adapters or {}).items()}
    with progress_bar("loading", transient=True) if progress is None else nullcontext(progress) as report:
        loaded = load_model(
            source,
            options.dtype,
            options.device,
            adapters=named,
            quantized=options.quantized,
            quantized_tower=options.quantized_tower,
            pickles=options.allow_pickle,
            progress=report,
        )
    if loaded.network.device.type == "cpu" or options.threads is not None:
        set_threads(loaded.network, streams, options.threads)
    return loaded


def load_engine(
    model: str | ModelSource, options: LoadingOptions, progress: Callable[[int, int], None] | None = None
) -> Engine:
    """Load a model as ``load`` does and return an engine for it."""
    from mmduet.engine import Engine

    return Engine(load(model, options, progress=progress), options.engine_config)


@contextmanager
def downloads_reported() -> Iterator[None]:
    """Write what downloads log to stderr, unless logging is configured, as it is in the server."""
    logger, handler = logging.getLogger("mmduet.model.hub"), logging.StreamHandler()
    if logger.hasHandlers():
        yield
        return
    level, logger.level = logger.level, logging.INFO
    logger.addHandler(handler)
    logger.propagate, propagated = False, logger.propagate
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = level, propagated
