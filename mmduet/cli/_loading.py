"""Options of every command that loads a model, and the loading itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
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
    Literal["int8", "nf4"] | None,
    Option(help="Store the language model's weights in 8 or 4 bits, which saves memory; needs mmduet\\[quant]."),
]
Dtype = Annotated[
    Literal["stored", "float32", "bfloat16", "float16"],
    Option(help="Number format of weights and computation; stored: that of the checkpoint."),
]
Threads = Annotated[
    int | None,
    Option(min=1, help="Number of CPU threads.", show_default="1 for small models and few streams, else one per core"),
]
MaxConcurrent = Annotated[
    int,
    Option("--at-once", min=1, help="Maximum number of videos that are processed at the same time; each needs memory."),
]


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
    adapter: Path | None = None,
    allow_pickle: bool = False,
    dtype: str = "float32",
    quantized: Literal["int8", "nf4"] | None = None,
    progress: Callable[[int, int], None] | None = None,
    adapters: Mapping[str, Path] | None = None,
    streams: int | None = 1,
    threads: int | None = None,
) -> LoadedModel:
    """Load a model; report to ``progress`` ``(done, total)`` or, without one, display a bar on stderr.

    PyTorch then uses ``threads`` CPU threads, or as many as steps of up to ``streams`` streams need; None: of any number.
    """
    from mmduet.engine.cpu_threads import set_threads
    from mmduet.model import load_model
    from mmduet.model.inspection import resolve_dtype
    from mmduet.model.source import find_adapter

    source = find(model, adapter, allow_pickle)
    with downloads_reported():
        named = {name: find_adapter(path, allow_pickle).path for name, path in (adapters or {}).items()}
    torch_dtype = resolve_dtype(dtype, source, allow_pickle)
    with progress_bar("loading", transient=True) if progress is None else nullcontext(progress) as report:
        loaded = load_model(
            source, torch_dtype, adapters=named, quantized=quantized, pickles=allow_pickle, progress=report
        )
    set_threads(loaded.network, streams, threads)
    return loaded


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
