"""``mmduet train``: train models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmduet.cli._loading import DEVICE_METAVAR

if TYPE_CHECKING:
    from mmduet.recipes.nano.recipe import Progress

app = typer.Typer(help="Train the bundled model.", no_args_is_help=True)


@app.command()
def nano(
    out: Annotated[Path, typer.Argument(help="Directory of the new checkpoint.")],
    work: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Directory of clips, frames and saved states, from which an interrupted run continues."
        ),
    ],
    clips: Annotated[int, typer.Option(help="Number of training clips; 0: the recipe's.")] = 0,
    pretraining_steps: Annotated[
        int,
        typer.Option(
            "--lesson-steps",
            help="Steps of the first stage, in which the vision part is trained alone; 0: the recipe's.",
        ),
    ] = 0,
    duet_steps: Annotated[
        int,
        typer.Option(help="Steps of the main stage; the refinement after it is scaled in proportion. 0: the recipe's."),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(metavar=DEVICE_METAVAR, help="Device to train on; auto: CUDA if there is a device, else the CPU."),
    ] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of CPU threads.", show_default="one per core")
    ] = None,
) -> None:
    """Train nano from scratch: clips, vocabulary, tower, duet. The same command continues an interrupted run."""
    from dataclasses import replace

    from mmduet.engine.cpu_threads import use_threads
    from mmduet.recipes.nano.recipe import NanoRecipe, make_nano

    if threads is not None:
        use_threads(threads)
    recipe = NanoRecipe()
    if clips:
        recipe = replace(recipe, clips=clips)
    if pretraining_steps:
        recipe = replace(recipe, patch_pretraining=replace(recipe.patch_pretraining, steps=pretraining_steps))
    if duet_steps:
        refinement_steps = max(1, round(duet_steps * recipe.refinement.steps / recipe.duet.steps))
        recipe = replace(
            recipe,
            duet=replace(recipe.duet, steps=duet_steps),
            refinement=replace(recipe.refinement, steps=refinement_steps),
        )
    with _stage_bars() as report:
        make_nano(out, work, recipe, report, device)
    typer.echo(f"nano is in {out}")


@contextmanager
def _stage_bars() -> Iterator[Progress]:
    """Yield a function that updates one bar per stage on stderr; it also prints the figures of every hundredth step."""
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
