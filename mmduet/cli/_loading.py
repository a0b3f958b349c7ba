"""What every command that loads a model asks: an adapter, number types, whether pickles are read; and the loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from mmduet.cli._progress import loading_bar

if TYPE_CHECKING:
    from mmduet.model import LoadedModel

Pickles = Annotated[
    bool, Option("--allow-pickle", help="Read .bin weights too: pickles, of which to trust only your own.")
]
Adapter = Annotated[Path | None, Option(metavar="DIR", help="A LoRA that PEFT saved, merged into the model.")]

Quantized = Annotated[
    Literal["int8", "nf4"] | None, Option(help="Hold the language model in so many bits; needs mmduet\\[quant].")
]
NumberType = Annotated[
    Literal["stored", "float32", "bfloat16", "float16"],
    Option(help="Number type to compute in; stored: the file's own."),
]
AtOnce = Annotated[int, Option("--at-once", min=1, help="Watch so many videos together; each takes memory.")]


def load(
    model: str,
    adapter: Path | None = None,
    pickles: bool = False,
    dtype: str = "float32",
    quantized: Literal["int8", "nf4"] | None = None,
    report: Callable[[int, int], None] | None = None,
    adapters: Mapping[str, Path] | None = None,
) -> LoadedModel:
    """The model, told by ``report`` or else by a bar on stderr."""
    from mmduet.model import load_model
    from mmduet.model.inspection import number_type

    number = number_type(dtype, model, pickles)
    with loading_bar("loading") if report is None else nullcontext(report) as told:
        return load_model(
            model, number, adapter=adapter, adapters=adapters, quantized=quantized, pickles=pickles, progress=told
        )
