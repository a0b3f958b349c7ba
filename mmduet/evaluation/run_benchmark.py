"""Run the evaluator of a benchmark by name, and describe its options for report files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from math import isnan
from pathlib import Path
from typing import Any

from mmduet.annotations.json_values import Json
from mmduet.annotations.prediction_settings import from_other_test_set
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import (
    BenchmarkName,
    audio_description,
    captions,
    dense_captioning,
    grounding,
    magqa,
    ovo,
    proactive,
    qvhighlights,
)
from mmduet.evaluation.intervals import add_intervals
from mmduet.evaluation.report import Report
from mmduet.metrics import in_span
from mmduet.progress import ProgressCallback

EVALUATORS: Mapping[BenchmarkName, Callable[..., Report]] = {
    "qvhighlights": qvhighlights.evaluate,
    "grounding": grounding.evaluate,
    "dense-captioning": dense_captioning.evaluate,
    "magqa": magqa.evaluate,
    "proactive": proactive.evaluate,
    "ovo": ovo.evaluate,
    "audio-description": audio_description.evaluate,
    "captions": captions.evaluate,
}
MAX_GRADES: Mapping[BenchmarkName, int] = {"magqa": in_span.MAX_SCORE, "proactive": proactive.MAX_GRADE}
"""The highest grade of a judge, by benchmark that uses one."""


def accepted_options(benchmark: BenchmarkName) -> Mapping[str, Parameter]:
    """Return the parameters of the benchmark's evaluator by name."""
    return signature(EVALUATORS[benchmark]).parameters


def run_benchmark(
    benchmark: BenchmarkName,
    predictions: Path,
    annotations: Sequence[Path] = (),
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> Report:
    """Return the report of a benchmark's evaluator, with confidence intervals of its metrics.

    Args:
        annotations: The test set; dense captioning takes several files.
        seed: Seed of the bootstrap.
        progress: Receives the number of graded answers; only benchmarks with a judge call it.
        options: Further arguments of the evaluator; see ``accepted_options``.

    Raises:
        OptionError: annotations are missing, there are too many, or an option is invalid.
        AnnotationError: a file cannot be used, or no prediction can be evaluated.
    """
    accepted = accepted_options(benchmark)
    check_annotations(benchmark, annotations)
    gold = list(annotations) if benchmark == "dense-captioning" else next(iter(annotations), None)
    shared = {name: value for name, value in (("seed", seed), ("progress", progress)) if name in accepted}
    report = EVALUATORS[benchmark](predictions, gold, **options, **shared)
    if all(isnan(value) for value in report.metrics.values()):
        first = "".join(f" (item {problem.id}: {problem.message})" for problem in report.problems[:1])
        raise AnnotationError(
            f"{predictions}: nothing in it can be evaluated{first}; give other predictions or annotations"
        )
    if from_other_test_set(predictions, [path for path in annotations if path.is_file()]):
        note = f"{predictions.name} was made for another test set than these annotations; only the ids were compared."
        report = replace(report, notes=[*report.notes, note])
    return add_intervals(report, seed)


def check_annotations(benchmark: BenchmarkName, annotations: Sequence[Path]) -> None:
    """Raise ``OptionError`` if annotations are missing that the benchmark needs, or if there are too many files."""
    if not annotations and accepted_options(benchmark)["annotations"].default is Parameter.empty:
        raise OptionError(f"{benchmark} needs --annotations: the test set that was predicted")
    if len(annotations) > 1 and benchmark != "dense-captioning":
        raise OptionError(f"{benchmark} takes one file of annotations, not {len(annotations)}")


def describe_options(options: Mapping[str, Any]) -> Json:
    """Return an evaluator's options as report files have them: a judge by its model, similarities by their number."""
    return {name: _describe_option(name, value) for name, value in options.items()}


def _describe_option(name: str, value: Any) -> Any:
    match name:
        case "judge":
            return value.model
        case "similarity":
            return len(value)
    return str(value) if isinstance(value, Path) else value
