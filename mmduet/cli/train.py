"""``mmduet train``: train models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mmduet.cli._loading import DEVICE_METAVAR
from mmduet.errors import OptionError

if TYPE_CHECKING:
    from mmduet.recipes.nano.recipe import Progress as StageProgress
    from mmduet.training.memory_estimate import StoredType
    from mmduet.training.recipe import Recipe

BAR_FIGURES = ("loss", "tokens_per_second", "memory_mb")  # for which a bar has space if there are many
PRINTED_STEPS = 100
RECIPE_COMMAND = "recipe"
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.", show_default="one per core")]


class RecipeGroup(TyperGroup):
    """A group in which ``mmduet train RECIPE …`` is short for ``mmduet train recipe RECIPE …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments of which the first is a command, an option of a command, or the name of a recipe."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [RECIPE_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Train a model with a recipe: mmduet train RECIPE --output DIR. The name nano trains the bundled model from scratch.",
    no_args_is_help=True,
    cls=RecipeGroup,
    subcommand_metavar="RECIPE|nano [ARGS]...",
)


@app.command(RECIPE_COMMAND)
def recipe_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="YAML file, or the name of a shipped recipe.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Directory of the run; the trained model is in DIR/model.", show_default=False
        ),
    ] = None,
    show_estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the memory that the training needs, and do not train.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in DIR from its last saved state.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda", help="Device to train on; auto: CUDA if there is a device, else the CPU."
        ),
    ] = "auto",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a value of the recipe, such as optimization.steps=100; may be repeated.",
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Train with a recipe and save an adapter or a checkpoint. The word recipe may be left out."""
    from mmduet.engine.cpu_threads import use_threads
    from mmduet.training.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if show_estimate:
        typer.echo(_estimate(loaded, device))
        return
    if output is None:
        raise OptionError("--output is missing; name the directory of the run, or give --estimate")
    from mmduet.training.run import train  # takes seconds, so a wrong recipe is reported first

    if threads is not None:
        use_threads(threads)
    with _stage_bars() as report:
        model = train(loaded, output, resume=resume, device=device, progress=report)
    typer.echo(f"the model is in {model}")


def _estimate(recipe: Recipe, device: str) -> str:
    """Return a table of the memory that a recipe needs. The model's weights are not read."""
    from mmduet.model.devices import dtype_name, resolve_device
    from mmduet.model.inspection import inspect_model
    from mmduet.training.memory_estimate import estimate, format_estimate

    found = inspect_model(recipe.model)
    if found.config is None or found.dtype is None:
        raise OptionError(f"{recipe.model} is an adapter, which cannot be trained; convert it with its base first")
    stored: StoredType = "float32" if dtype_name(found.dtype) == "float32" else "bfloat16"
    return format_estimate(estimate(recipe, found.config, device_type=resolve_device(device).type, stored=stored))


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
    threads: Threads = None,
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
def _stage_bars() -> Iterator[StageProgress]:
    """Yield a function that updates one bar per stage on stderr; it also prints the figures of every hundredth step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
            chosen = {name: metrics[name] for name in BAR_FIGURES if name in metrics} or metrics
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, figures="")
            bar.update(tasks[stage], completed=done, figures=_describe(chosen))
            if metrics and done % PRINTED_STEPS == 0:
                bar.console.print(f"{stage} {done}/{total}  {_describe(metrics)}")

        yield report


def _describe(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
