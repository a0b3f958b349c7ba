"""``mmduet calibrate``: fit a model's speak policy on validation videos and write it into the model's manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, LoadingOptions, find, load_engine
from mmduet.cli._options import takes_options

if TYPE_CHECKING:
    from mmduet.evaluation.runs.calibration_streams import AnnotatedVideo
    from mmduet.model.config import Recommended
    from mmduet.model.source import ModelSource
    from mmduet.training.calibration import Calibration

RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(LoadingOptions):
    """The options of ``mmduet calibrate``."""

    model: Annotated[str, Argument(metavar=MODEL_METAVAR, help=MODEL_HELP, show_default=False)]
    data: Annotated[
        str,
        Option(
            metavar="DIR|RECIPE",
            help="Videos to calibrate on: a split made by `mmduet scenes make`, or a training recipe, whose validation data "
            "are used. Do not use videos that the model was trained or is tested on.",
        ),
    ]
    queries: Annotated[
        Literal["narration", "questions", "all"],
        Option(help="Queries of a split of scenes that the policy is fitted for."),
    ] = "narration"
    policy: Annotated[
        Literal["threshold", "sum", "any"],
        Option(
            help="Kind of policy; any: threshold, unless sum is clearly better, or the other way round if the model has sum."
        ),
    ] = "any"
    plot: Annotated[
        Path | None,
        Option(metavar="FILE.png", help="Draw precision, recall and F1 into this file; also .pdf or .svg."),
    ] = None
    json_path: Annotated[Path | None, Option("--json", metavar="FILE.json", help="Write the figures to this file.")] = (
        None
    )
    dry_run: Annotated[bool, Option("--dry-run", help="Report the policy without writing it into the model.")] = False


@takes_options(CalibrateOptions)
def calibrate(options: CalibrateOptions) -> None:
    """Fit when a model speaks: the threshold, minimum interval and heads with the highest speak-F1 on validation videos.

    The policy becomes the model's default: it is written into `mmduet.json` of the checkpoint or of the adapter.
    """
    from mmduet.cli._output_files import check_output_files
    from mmduet.cli._progress import progress_bar
    from mmduet.engine import recommended_options
    from mmduet.evaluation.runs.calibration_streams import score_videos
    from mmduet.files import write_json
    from mmduet.training.calibration import POLICIES, fit_policy

    check_output_files({"--plot": options.plot, "--json": options.json_path})
    source = find(options.model, options.adapter, options.allow_pickle)
    target = None if options.dry_run else manifest_directory(source)
    engine = load_engine(source, options)
    recommended = engine.model.config.recommended
    videos = find_videos(options, recommended)
    with progress_bar("scoring") as report:
        streams = score_videos(engine, videos, report)
    policies = POLICIES if options.policy == "any" else (options.policy,)
    fitted = fit_policy(streams, recommended_options(recommended).speak, policies=policies)
    show(fitted)
    if options.json_path is not None:
        write_json(options.json_path, fitted.to_dict(), indent=2)
    if options.plot is not None:
        draw(options.plot, f"{engine.model.config.name}, {len(streams)} streams of {Path(options.data).name}", fitted)
    if target is not None:
        write_policy(target, fitted)


def find_videos(options: CalibrateOptions, recommended: Recommended) -> list[AnnotatedVideo]:
    """Return the videos of a split, or of the validation data of a recipe."""
    from mmduet.evaluation.runs.calibration_streams import recipe_videos, scene_videos
    from mmduet.training.recipe_files import load_recipe

    if Path(options.data).suffix.lower() in RECIPE_SUFFIXES and not Path(options.data).is_dir():
        return recipe_videos(load_recipe(options.data), recommended.query, options.queries)
    return scene_videos(options.data, recommended.query, options.queries)


def manifest_directory(source: ModelSource) -> Path:
    """Return the directory whose manifest holds the model's policy. Raise ``OptionError`` if it cannot be changed."""
    from mmduet.errors import OptionError
    from mmduet.model.checkpoint import MANIFEST
    from mmduet.nano import BUNDLED

    found = source.adapter or source.base
    if found is None or found.revision is not None or found.path in BUNDLED.values():
        raise OptionError(
            "the policy can only be written into a model in a directory of your own, not into one that is bundled, downloaded "
            "or random; convert the model into a directory, or use --dry-run to only report the policy"
        )
    if not (found.path / MANIFEST).is_file():
        raise OptionError(
            f"{found.path} has no {MANIFEST} that the policy could be written into; convert the model with mmduet convert, "
            "or use --dry-run to only report the policy"
        )
    return found.path


def write_policy(directory: Path, fitted: Calibration) -> None:
    """Write the policy into the manifest in ``directory``."""
    from mmduet.model.adapter_files import update_recommended
    from mmduet.training.calibration import format_policy

    speak = fitted.speak
    update_recommended(
        directory, speak=format_policy(speak), score_heads=speak.heads, min_interval=speak.min_interval
    )  # fmt: skip
    typer.echo(f"the policy is written into {directory}")


def show(fitted: Calibration) -> None:
    """Print both policies and their figures."""
    from mmduet.training.calibration import format_policy

    for name, speak, counts, (low, high) in (
        ("before", fitted.previous, fitted.previous_counts, fitted.previous_interval),
        ("after", fitted.speak, fitted.counts, fitted.interval),
    ):
        typer.echo(
            f"{name:7} {format_policy(speak):15} of {' + '.join(speak.heads)}, at least {speak.min_interval:g} s apart: "
            f"speak-F1 {counts.f1:.3f} ({low:.3f} to {high:.3f}), precision {counts.precision:.3f}, recall {counts.recall:.3f}"
        )
    typer.echo(
        f"a reply is due at {fitted.due_share:.1%} of the frames; ROC-AUC of the scores {fitted.roc_auc:.3f}, "
        f"PR-AUC {fitted.pr_auc:.3f}"
    )


def draw(path: Path, title: str, fitted: Calibration) -> None:
    """Draw the curves and both policies."""
    from mmduet.training.calibration import format_policy
    from mmduet.viz.calibration_plot import CalibrationCurve, OperatingPoint, save_calibration_plot

    speak, previous, curve = fitted.speak, fitted.previous, fitted.curve
    is_comparable = (speak.policy, speak.heads, speak.min_interval) == (
        previous.policy, previous.heads, previous.min_interval,
    )  # fmt: skip
    points = [
        OperatingPoint(
            f"{name}: {format_policy(each)}, F1 {counts.f1:.3f}",
            counts.precision,
            counts.recall,
            each.value if on_curve else None,
        )
        for name, each, counts, on_curve in (
            ("chosen", speak, fitted.counts, True),
            ("before", previous, fitted.previous_counts, is_comparable),
        )
    ]
    drawn = CalibrationCurve(
        speak.policy, curve.values.tolist(), curve.precision.tolist(), curve.recall.tolist(), curve.f1.tolist()
    )
    save_calibration_plot(path, title, drawn, *points)
