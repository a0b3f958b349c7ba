"""``mmduet scenes``: renders clips of the procedural world; what is in them is the business of ``mmduet.scenes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmduet.cli._loading import Adapter, AllowPickle, Dtype, load
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

app = typer.Typer(help="Render video clips whose annotations are exact.", no_args_is_help=True)


@app.command()
def make(
    directory: Annotated[Path, typer.Argument(help="Where the clips and their annotations go.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which of the disjoint splits.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same clips.")] = 0,
    min_seconds: Annotated[float, typer.Option(help="The shortest a clip may be.")] = 10.0,
    max_seconds: Annotated[float, typer.Option(help="The longest a clip may be.")] = 20.0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 256,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 8.0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0 takes one per core.")] = 0,
) -> None:
    """Render COUNT clips into DIRECTORY, with annotations."""
    from mmduet.scenes import SplitSpec, make_split

    spec = SplitSpec(
        split=split, count=count, seed=seed, min_seconds=min_seconds, max_seconds=max_seconds, size=size, fps=fps
    )
    with progress_bar("rendering") as report:
        make_split(directory, spec, workers=workers, progress=report)
    typer.echo(f"{count} clip{'s' if count > 1 else ''} in {directory}")


@app.command()
def score(
    directory: Annotated[Path, typer.Argument(help="A split made by `mmduet scenes make`.")],
    model: Annotated[str, typer.Option(help="nano, random:SIZE or a checkpoint directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "float32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the table here as well.")] = None,
) -> None:
    """Score MODEL on the split: when it speaks, what it says, questions, grounding, highlights, speed."""
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.scene_scores import score_scenes
    from mmduet.files import write_json

    check_output_files({"--json": json_path})
    engine = Engine(load(model, adapter, allow_pickle, dtype))
    with progress_bar("scoring") as report:
        table = score_scenes(directory, engine, report).to_dict()
    _print_table(table)
    if json_path is not None:
        write_json(json_path, table, indent=2)


@app.command()
def window(
    directory: Annotated[Path, typer.Argument(help="A split made by `mmduet scenes make`; long clips, of minutes.")],
    model: Annotated[str, typer.Option(help="nano, random:SIZE or a checkpoint directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "float32",
    windows: Annotated[str, typer.Option(metavar="N|SECONDSs|none,...", help="What to try.")] = "2,4,8,16,32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw them.")] = None,
) -> None:
    """Score MODEL with windows of several sizes: what keeping fewer frames in view costs, and what it saves."""
    from mmduet.cli._windows import draw, table
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.window_ablation import run_window_ablation
    from mmduet.files import write_json
    from mmduet.options import parse_window

    check_output_files({"--json": json_path, "--plot": plot})
    engine = Engine(load(model, adapter, allow_pickle, dtype))
    fps = engine.model.config.recommended.fps
    asked = [parse_window(text.strip(), fps) for text in windows.split(",")]
    with progress_bar("scoring") as report:
        rows = [row.to_dict() for row in run_window_ablation(directory, engine, asked, report)]
    typer.echo(table(rows))
    if json_path is not None:
        write_json(json_path, rows, indent=2)
    if plot is not None:
        draw(plot, rows)


@app.command()
def drift(
    directory: Annotated[Path, typer.Argument(help="A split made by `mmduet scenes make`.")],
    model: Annotated[str, typer.Option(help="nano, random:SIZE or a checkpoint directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "float32",
    quantized: Annotated[
        Literal["int8", "nf4"], typer.Option(help="Against the model with quantised weights.")
    ] = "int8",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Say what quantised weights change: scores, decisions, words, and memory."""
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.quantization_drift import measure_drift as measure
    from mmduet.files import write_json
    from mmduet.model.quantize import weight_bytes

    check_output_files({"--json": json_path})
    plain = load(model, adapter, allow_pickle, dtype)
    other = load(model, adapter, allow_pickle, dtype, quantized)
    sizes = {"plain_weight_bytes": weight_bytes(plain.network), "weight_bytes": weight_bytes(other.network)}
    with progress_bar("watching") as report:
        figures = measure(directory, Engine(plain), Engine(other), report).to_dict() | sizes
    for name, value in figures.items():
        typer.echo(f"{name:20} {value:,}" if isinstance(value, int) else f"{name:20} {value:.2g}")
    if json_path is not None:
        write_json(json_path, figures, indent=2)


def _print_table(table: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table("measure", "value", box=None)
    grid.columns[1].justify = "right"
    for name, value in table.items():
        grid.add_row(name, f"{value:.1f}" if name == "x_realtime" else f"{value:.3f}")
    Console().print(grid)
