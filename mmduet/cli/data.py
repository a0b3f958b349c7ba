"""``mmduet data``: check the data sets of benchmarks and of training recipes, and draw training samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from mmduet.training.recipe_data import SetCounts

app = typer.Typer(help="Check data sets of benchmarks and training recipes.", no_args_is_help=True)

RECIPE_SUFFIXES = (".yaml", ".yml")
Overrides = Annotated[
    list[str] | None,
    Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the recipe, such as sampling.fps=2; may be repeated."
    ),
]


@app.callback()
def data() -> None:
    """Check data sets of benchmarks and training recipes."""


@app.command()
def check(
    name: Annotated[
        str,
        Argument(
            metavar="NAME|RECIPE",
            help="Benchmark (youcook2, magqa, charades or qvh), or training recipe: a YAML file or a shipped recipe's name.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        Option("--dir", metavar="DIR", help="Folder of a benchmark's local copy.", show_default="datasets/NAME"),
    ] = None,
    overrides: Overrides = None,
    index: Annotated[
        Path | None,
        Option(help="JSON file in which what is read of a recipe's videos is kept, so that they are read once."),
    ] = None,
    workers: Annotated[int, Option(min=1, help="Processes that read a recipe's videos.")] = 2,
) -> None:
    """Parse the annotations and read every video of a benchmark or a recipe. Exit status 1 if there are problems.

    Of a recipe, every sample is built, and samples, tokens, replies and labels are counted.
    """
    from mmduet.evaluation.datasets import DATASETS

    if name in DATASETS or not _is_recipe(name):
        problems = _check_benchmark(name, folder or Path("datasets") / name)
    else:
        problems = _check_recipe(name, overrides or [], index, workers)
    if problems:
        raise typer.Exit(1)


@app.command()
def show(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="YAML file or shipped recipe's name.", show_default=False)],
    sample: Annotated[
        str, Argument(metavar="INDEX", help="Number of the sample, from 0, or its id.", show_default=False)
    ],
    output: Annotated[Path, Option(help="Picture: .png, .pdf or .svg.", show_default=False)],
    overrides: Overrides = None,
    epoch: Annotated[int, Option(min=0, help="Epoch whose crop, instruction and replies are drawn.")] = 0,
) -> None:
    """Draw a training sample: film strip, turns, labels of both heads, and numbers of tokens."""
    from mmduet.cli._output_files import PICTURES, check_output_file
    from mmduet.training.recipe_files import load_recipe
    from mmduet.training.sample_picture import draw_sample

    check_output_file("--output", output, PICTURES)
    typer.echo(draw_sample(load_recipe(recipe, overrides or []), sample, output, epoch))


def _is_recipe(name: str) -> bool:
    from mmduet.training.recipe_files import shipped_recipes

    return name.endswith(RECIPE_SUFFIXES) or name in shipped_recipes()


def _check_benchmark(name: str, folder: Path) -> int:
    """Check a benchmark's data set; return the number of problems."""
    from mmduet.cli._progress import progress_bar
    from mmduet.evaluation import datasets

    with progress_bar("videos") as bar:
        report = datasets.check_dataset(name, folder, bar)
    for problem in report.problems:
        typer.echo(problem, err=True)
    typer.echo(f"{name}: {report.questions} questions, {report.videos} videos, {len(report.problems)} problems")
    return len(report.problems)


def _check_recipe(name: str, overrides: list[str], index: Path | None, workers: int) -> int:
    """Check the data of a recipe; return the number of problems."""
    from mmduet.cli._progress import progress_bar
    from mmduet.training.recipe_data import check_recipe_data
    from mmduet.training.recipe_files import load_recipe

    recipe = load_recipe(name, overrides)
    with progress_bar("videos") as bar:
        report = check_recipe_data(recipe, index, workers, bar)
    for problem in report.problems:
        typer.echo(problem, err=True)
    for set_name, counts in report.sets.items():
        typer.echo(f"{set_name}: {_describe(counts)}")
    typer.echo(f"{name}: {report.samples} samples, {report.videos} videos, {len(report.problems)} problems")
    return len(report.problems)


def _describe(counts: SetCounts) -> str:
    parts = [
        f"{counts.samples} samples",
        f"{counts.frames} frames",
        f"{counts.tokens} tokens (at most {counts.longest})",
        f"{counts.replies} replies ({counts.unreachable} without a frame in time)",
    ]
    for head in ("informative", "relevance"):
        positive, negative = (counts.labels[head, label] for label in (1, 0))
        parts.append(f"{head} {positive} of {positive + negative}")
    return ", ".join(parts)
