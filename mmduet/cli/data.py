"""``mmduet data``: the data sets that benchmarks run on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

app = typer.Typer(help="Data sets for the benchmarks.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Data sets for the benchmarks."""


@app.command()
def check(
    name: Annotated[str, Argument(metavar="NAME", help="youcook2, magqa, charades or qvh.", show_default=False)],
    folder: Annotated[
        Path | None, Option("--dir", metavar="DIR", help="Where it lies.", show_default="datasets/NAME")
    ] = None,
) -> None:
    """Say whether a local copy is all there: annotations parsed, every video opened. Exit status 1 if not."""
    from mmduet.cli._progress import progress_bar
    from mmduet.evaluation import datasets

    with progress_bar("videos") as bar:
        found = datasets.check_dataset(name, folder or Path("datasets") / name, bar)
    for fault in found.problems:
        typer.echo(fault, err=True)
    typer.echo(f"{name}: {found.questions} questions, {found.videos} videos, {len(found.problems)} faults")
    if found.problems:
        raise typer.Exit(1)
