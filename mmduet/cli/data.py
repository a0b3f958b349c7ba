"""``mmduet data``: check local copies of the benchmarks' data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

app = typer.Typer(help="Check the data sets of the benchmarks.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check the data sets of the benchmarks."""


@app.command()
def check(
    name: Annotated[
        str, Argument(metavar="NAME", help="Data set: youcook2, magqa, charades or qvh.", show_default=False)
    ],
    folder: Annotated[
        Path | None, Option("--dir", metavar="DIR", help="Folder of the local copy.", show_default="datasets/NAME")
    ] = None,
) -> None:
    """Check that a local copy is complete: parse the annotations and open every video. Exit status 1 if it is not."""
    from mmduet.cli._progress import progress_bar
    from mmduet.evaluation import datasets

    with progress_bar("videos") as bar:
        report = datasets.check_dataset(name, folder or Path("datasets") / name, bar)
    for problem in report.problems:
        typer.echo(problem, err=True)
    typer.echo(f"{name}: {report.questions} questions, {report.videos} videos, {len(report.problems)} problems")
    if report.problems:
        raise typer.Exit(1)
