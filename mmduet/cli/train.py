"""``mmduet train``: makes models; what training is, is the business of ``mmduet.training``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmduet.recipes.nano.recipe import Progress

app = typer.Typer(help="Train models.", no_args_is_help=True)


@app.command()
def nano(
    out: Annotated[Path, typer.Argument(help="Directory of the finished checkpoint.")],
    work: Annotated[Path, typer.Option(help="Where clips, frames and training states are kept; resumes from here.")],
    clips: Annotated[int, typer.Option(help="Training clips; 0: the recipe's number.")] = 0,
    lesson_steps: Annotated[int, typer.Option(help="Steps of the tower's first lessons; 0: the recipe's.")] = 0,
    duet_steps: Annotated[
        int,
        typer.Option(
            help="Steps of the duet, and as the recipe has it a third of that of its refinement; 0: the recipe's."
        ),
    ] = 0,
) -> None:
    """Make nano from nothing: clips, vocabulary, tower, duet. Interrupt it at will; the same command goes on."""
    from dataclasses import replace

    from mmduet.recipes.nano.recipe import NanoRecipe, make_nano

    recipe = NanoRecipe()
    if clips:
        recipe = replace(recipe, clips=clips)
    if lesson_steps:
        recipe = replace(recipe, patch_pretraining=replace(recipe.patch_pretraining, steps=lesson_steps))
    if duet_steps:
        refining = max(1, round(duet_steps * recipe.refinement.steps / recipe.duet.steps))
        recipe = replace(
            recipe,
            duet=replace(recipe.duet, steps=duet_steps),
            refinement=replace(recipe.refinement, steps=refining),
        )
    with _stages() as report:
        make_nano(out, work, recipe, report)
    typer.echo(f"nano is in {out}")


@contextmanager
def _stages() -> Iterator[Progress]:
    """One bar per stage on stderr, with the latest metrics; every hundredth step is also written as a line to keep."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, figures="")
            bar.update(tasks[stage], completed=done, figures=text)
            if metrics and done % 100 == 0:
                bar.console.print(f"{stage} {done}/{total}  {text}")

        yield report
