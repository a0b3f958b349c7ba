"""What every command that loads a model asks and shows: an adapter, whether pickles are read, a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

Pickles = Annotated[
    bool, Option("--allow-pickle", help="Read .bin weights too: pickles, of which to trust only your own.")
]
Adapter = Annotated[Path | None, Option(metavar="DIR", help="A LoRA that PEFT saved, merged into the model.")]

Quantized = Annotated[
    Literal["int8", "nf4"] | None, Option(help="Hold the language model in so many bits; needs mmduet\\[quant].")
]


@contextmanager
def loading_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)
