"""``mmduet convert``: other people's checkpoints, made ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

Pickles = Annotated[
    bool, Option("--allow-pickle", help="Read .bin weights too: pickles, of which to trust only your own.")
]
Adapter = Annotated[Path | None, Option(metavar="DIR", help="A LoRA that PEFT saved, merged into the model.")]


def convert(
    source: Annotated[str, Argument(metavar="SRC", help="A LLaVA-OneVision directory, or a checkpoint of ours.")],
    target: Annotated[Path, Argument(metavar="DST", help="Directory of the finished checkpoint.")],
    adapter: Adapter = None,
    dtype: Annotated[
        Literal["stored", "float32", "bfloat16", "float16"], Option(help="Number type of the weights written.")
    ] = "stored",
    allow_pickle: Pickles = False,
) -> None:
    """Write SRC as one directory that holds everything needed to serve; DST is whole or not there."""
    from mmduet.errors import OptionError
    from mmduet.model import load_model
    from mmduet.model.checkpoint import MANIFEST, save_checkpoint
    from mmduet.model.inspection import number_type

    if target.exists() and not (target / MANIFEST).exists():
        raise OptionError(f"{target} exists and is no checkpoint of ours; give a directory that does not exist")
    number = number_type(dtype, source, allow_pickle)
    with _bar("reading") as report:
        model = load_model(source, dtype=number, adapter=adapter, pickles=allow_pickle, progress=report)
    extra = {"converted_from": {"source": Path(source).name, "adapter": adapter.name if adapter else None}}
    save_checkpoint(target, model.network, model.tokenizer, extra=extra)
    typer.echo(
        f"{target} holds {source}{f' with {adapter}' if adapter else ''}, in {str(number).removeprefix('torch.')}"
    )


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)
