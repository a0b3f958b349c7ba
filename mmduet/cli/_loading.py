"""Options of every command that loads a model, and the loading itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from mmduet.model import LoadedModel

MODEL_HELP = "The model: nano, random:SIZE, or the directory of a checkpoint."
AllowPickle = Annotated[
    bool,
    Option(
        "--allow-pickle", help="Also read .bin weights. These are pickles and can run code: only use trusted files."
    ),
]
Adapter = Annotated[Path | None, Option(metavar="DIR", help="Merge a LoRA adapter saved by PEFT into the model.")]
Quantized = Annotated[
    Literal["int8", "nf4"] | None,
    Option(help="Quantize the weights of the language model; needs mmduet\\[quant]."),
]
Dtype = Annotated[
    Literal["stored", "float32", "bfloat16", "float16"],
    Option(help="Data type of weights and computation; stored: that of the checkpoint."),
]
MaxConcurrent = Annotated[
    int, Option("--at-once", min=1, help="Maximum number of videos processed at the same time; each needs memory.")
]


def load(
    model: str,
    adapter: Path | None = None,
    allow_pickle: bool = False,
    dtype: str = "float32",
    quantized: Literal["int8", "nf4"] | None = None,
    progress: Callable[[int, int], None] | None = None,
    adapters: Mapping[str, Path] | None = None,
) -> LoadedModel:
    """Load a model; report to ``progress`` ``(done, total)`` or, without one, display a bar on stderr."""
    from mmduet.model import load_model
    from mmduet.model.inspection import resolve_dtype

    torch_dtype = resolve_dtype(dtype, model, allow_pickle)
    with progress_bar("loading", transient=True) if progress is None else nullcontext(progress) as report:
        return load_model(
            model,
            torch_dtype,
            adapter=adapter,
            adapters=adapters,
            quantized=quantized,
            pickles=allow_pickle,
            progress=report,
        )
