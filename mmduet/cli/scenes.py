"""``mmduet scenes``: render clips of the procedural world, and evaluate models on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, LoadingOptions, load, load_engine
from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

app = typer.Typer(help="Render video clips with exact annotations, and evaluate models on them.", no_args_is_help=True)


@app.command()
def make(
    directory: Annotated[Path, typer.Argument(help="Output directory of the clips and their annotations.")],
    split: Annotated[
        Literal["train", "val", "test"],
        typer.Option(help="Which of the three sets of clips, which never share a clip."),
    ] = "test",
    count: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 20,
    seed: Annotated[int, typer.Option(help="Random seed; equal seeds give equal clips.")] = 0,
    min_seconds: Annotated[float, typer.Option(help="Minimum duration of a clip in seconds.")] = 10.0,
    max_seconds: Annotated[float, typer.Option(help="Maximum duration of a clip in seconds.")] = 20.0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 256,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 8.0,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that render; 0: one per CPU core.")] = 0,
) -> None:
    """Render COUNT clips with annotations into DIRECTORY."""
    from mmduet.scenes import SplitSpec, make_split

    spec = SplitSpec(
        split=split, count=count, seed=seed, min_seconds=min_seconds, max_seconds=max_seconds, size=size, fps=fps
    )
    with progress_bar("rendering") as report:
        make_split(directory, spec, workers=workers, progress=report)
    typer.echo(f"{count} clip{'s' if count > 1 else ''} in {directory}")


@dataclass(frozen=True, kw_only=True)
class SceneOptions(LoadingOptions):
    """The options of the commands that run a model on rendered clips."""

    directory: Annotated[Path, typer.Argument(help="Directory made by `mmduet scenes make`.")]
    model: Annotated[str, typer.Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file, too.")] = None


@app.command()
@takes_options(SceneOptions)
def score(options: SceneOptions) -> None:
    """Evaluate a model on rendered clips: timing and text of replies, answers, grounding, highlights and speed."""
    from mmduet.evaluation.runs.scene_scores import score_scenes
    from mmduet.files import write_json

    check_output_files({"--json": options.json_path})
    engine = load_engine(options.model, options)
    with progress_bar("scoring") as report:
        table = score_scenes(options.directory, engine, report).to_dict()
    _print_table(table)
    if options.json_path is not None:
        write_json(options.json_path, table, indent=2)


@dataclass(frozen=True, kw_only=True)
class WindowOptions(SceneOptions):
    """The options of ``mmduet scenes window``."""

    directory: Annotated[
        Path, typer.Argument(help="Directory made by `mmduet scenes make`, with clips of some minutes.")
    ]
    windows: Annotated[
        str,
        typer.Option(
            metavar="N|SECONDSs|none,...",
            help="The windows to compare: numbers of frames, durations, or none for no limit.",
        ),
    ] = "2,4,8,16,32"
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the results into this file.")] = None


@app.command()
@takes_options(WindowOptions)
def window(options: WindowOptions) -> None:
    """Compare how a model does when it remembers more or fewer frames, and the memory that this takes."""
    from mmduet.evaluation.runs.window_ablation import run_window_ablation
    from mmduet.files import write_json
    from mmduet.options import parse_window
    from mmduet.viz.window_plot import save_window_plot

    check_output_files({"--json": options.json_path, "--plot": options.plot})
    engine = load_engine(options.model, options)
    fps = engine.model.config.recommended.fps
    sizes = [parse_window(text.strip(), fps) for text in options.windows.split(",")]
    with progress_bar("scoring") as report:
        rows = [row.to_dict() for row in run_window_ablation(options.directory, engine, sizes, report)]
    typer.echo(_window_table(rows))
    if options.json_path is not None:
        write_json(options.json_path, rows, indent=2)
    if options.plot is not None:
        save_window_plot(options.plot, rows)


@dataclass(frozen=True, kw_only=True)
class DriftOptions(SceneOptions):
    """The options of ``mmduet scenes drift``."""

    baseline_dtype: Annotated[
        Literal["auto", "stored", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Number format of the model that is compared with.", show_default="that of --dtype"),
    ] = None

    def completed(self) -> DriftOptions:
        """Return the options with ``quantized="int8"`` if they name nothing that the two models differ in."""
        approximates = self.kv_dtype != "auto" or self.attention == "products"
        differences = (self.quantized, self.quantized_tower, self.baseline_dtype, approximates)
        return self if any(differences) else replace(self, quantized="int8")

    def baseline(self) -> DriftOptions:
        """Return the options of the model that is compared with."""
        dtype = self.baseline_dtype or self.dtype
        attention = "auto" if self.attention == "products" else self.attention
        return replace(self, quantized=None, quantized_tower=None, kv_dtype="auto", attention=attention, dtype=dtype)


@app.command()
@takes_options(DriftOptions)
def drift(options: DriftOptions) -> None:
    """Report how quantised weights, keys and values, or another number format change scores, decisions, texts and memory.

    Without options, weights of the language model in int8 are compared with those as loaded.
    """
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.quantization_drift import measure_drift
    from mmduet.files import write_json
    from mmduet.model.quantize import weight_bytes

    check_output_files({"--json": options.json_path})
    options = options.completed()
    original, quantized = load(options.model, options.baseline()), load(options.model, options)
    sizes = {"plain_weight_bytes": weight_bytes(original.network), "weight_bytes": weight_bytes(quantized.network)}
    plain_engine = Engine(original, options.baseline().engine_config)
    quantized_engine = Engine(quantized, options.engine_config)
    with progress_bar("processing") as report:
        figures = measure_drift(options.directory, plain_engine, quantized_engine, report).to_dict() | sizes
    for name, value in figures.items():
        typer.echo(f"{name:20} {value:,}" if isinstance(value, int) else f"{name:20} {value:.2g}")
    if options.json_path is not None:
        write_json(options.json_path, figures, indent=2)


def _window_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the results of all windows as a Markdown table."""
    from mmduet.viz.window_plot import METRIC_LABELS, format_window

    header = ["frames in view", *METRIC_LABELS.values(), "KiB per stream", "x real time"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        metrics = [f"{row[name]:.3f}" for name in METRIC_LABELS]
        size, speed = f"{row['stream_bytes'] / 1024:.0f}", f"{row['x_realtime']:.0f}"
        lines.append([format_window(row["window"]), *metrics, size, speed])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _print_table(table: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    view = Table("measure", "value", box=None)
    view.columns[1].justify = "right"
    for name, value in table.items():
        view.add_row(name, f"{value:.1f}" if name == "x_realtime" else f"{value:.3f}")
    Console().print(view)
