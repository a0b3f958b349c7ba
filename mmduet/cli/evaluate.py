"""``mmduet evaluate``: compare predictions with annotations and show, store or plot the metrics of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from mmduet.cli._options import takes_options
from mmduet.evaluation.benchmarks import BenchmarkName

if TYPE_CHECKING:
    from mmduet.evaluation.report import Report

MAX_PROBLEMS = 10
JUDGE = "magqa, proactive:"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The options of ``mmduet evaluate``."""

    benchmark: Annotated[BenchmarkName, Argument(help="The benchmark.", show_default=False)]
    predictions: Annotated[Path, Option(metavar="FILE", help="File of a model's predictions.")]
    annotations: Annotated[
        list[Path] | None, Option(metavar="FILE", help="File of the right answers; dense-captioning takes several.")
    ] = None
    profile: Annotated[
        Literal["fixed", "paper"],
        Option(
            help="fixed: the algorithms as published; paper: exactly what the original evaluators compute, faults included."
        ),
    ] = "fixed"
    json_path: Annotated[Path | None, Option("--json", metavar="FILE.json", help="Write the report to this file.")] = (
        None
    )
    html: Annotated[
        Path | None,
        Option(metavar="FILE.html", help="Write the report as a web page, with curves and the worst cases."),
    ] = None
    videos: Annotated[
        Path | None, Option(metavar="DIR", help="With --html: directory of the videos, for film strips.")
    ] = None
    per_item: Annotated[bool, Option("--per-item", help="With --json: add the values of each query or video.")] = False
    strict: Annotated[bool, Option("--strict", help="Fail if any prediction cannot be used as it is.")] = False
    smoothing: Annotated[
        int | None,
        Option(
            max=10_000,
            help="qvhighlights, grounding: average scores over this many frames on each side.",
            show_default="4",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        Option(
            help="grounding: a frame is in the span if its score, scaled to 0 to 1, is at least this.",
            show_default="0.5",
        ),
    ] = None
    sample: Annotated[
        bool | None, Option("--sample", help="grounding: evaluate only queries that have a prediction.")
    ] = None
    flavour: Annotated[
        str | None,
        Option(
            help="dense-captioning: evaluator to follow: vid2seq (also MMDuet's and TimeChat's), densevid2018, "
            "densevid2021 or vidchapters.",
            show_default="vid2seq",
        ),
    ] = None
    meteor_seconds: Annotated[
        float | None,
        Option(
            help="captions, dense-captioning, audio-description: maximum time of METEOR for one caption.",
            show_default="60",
        ),
    ] = None
    similarities: Annotated[
        Path | None, Option(metavar="FILE.npz", help="audio-description: a matrix of sentence similarities per movie.")
    ] = None
    judge: Annotated[
        str | None,
        Option(
            metavar="URL|exact",
            help=f"{JUDGE} address of an OpenAI-compatible server whose model grades the answers, or exact to compare texts.",
        ),
    ] = None
    judge_model: Annotated[str | None, Option(metavar="NAME", help=f"{JUDGE} name of the model at that server.")] = None
    judge_cache: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f"{JUDGE} keep the judge's replies in this file.",
            show_default="PREDICTIONS.judge.jsonl",
        ),
    ] = None
    judgements: Annotated[
        Path | None, Option(metavar="FILE", help=f"{JUDGE} file of a judge's replies that were collected before.")
    ] = None
    judge_prompt: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f"{JUDGE} file of the judge's prompt, with the placeholders {{question}}, {{gold}} and {{answer}}.",
        ),
    ] = None
    num_examples: Annotated[
        int | None, Option(help="magqa: number of questions in the test set; missing predictions count as wrong.")
    ] = None
    seed: Annotated[int | None, Option(min=0, help="Random seed of the confidence intervals.", show_default="0")] = None

    @property
    def queries_model(self) -> bool:
        """Whether a model grades the answers."""
        return self.judge not in (None, "exact")

    @property
    def evaluator_options(self) -> dict[str, Any]:
        """The given options of the benchmark's evaluator, by the names of its arguments; judge and similarities excepted."""
        options = {
            "smoothing": self.smoothing, "threshold": self.threshold, "sample": self.sample, "flavour": self.flavour,
            "seed": self.seed, "judgements": self.judgements, "prompt": self.judge_prompt,
            "num_examples": self.num_examples, "meteor_seconds": self.meteor_seconds,
        }  # fmt: skip
        return {name: value for name, value in options.items() if value is not None}


@takes_options(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Compute a benchmark's metrics. Predictions are those of `mmduet predict`, or files in the formats of other projects.

    The API key of the judge is read from the environment variable MMDUET_JUDGE_KEY.
    """
    from mmduet.cli._progress import progress_bar
    from mmduet.evaluation.run_benchmark import run_benchmark

    validate(options)
    with evaluator_arguments(options) as arguments, progress_bar("judging") as bar:
        report = run_benchmark(
            options.benchmark,
            options.predictions,
            options.annotations or (),
            profile=options.profile,
            strict=options.strict,
            progress=bar,
            **arguments,
        )
    show(report)
    write_files(options, report, arguments)


def validate(options: EvaluateOptions) -> None:
    """Raise ``OptionError`` for files that cannot be written, and for options that have no effect."""
    from mmduet.cli._output_files import check_output_files
    from mmduet.errors import OptionError

    optional = (options.judgements, options.judge_prompt, options.similarities)
    inputs = [options.predictions, *(options.annotations or ()), *(file for file in optional if file is not None)]
    outputs = {"--json": options.json_path, "--html": options.html, "--judge-cache": options.judge_cache}
    check_output_files(outputs, *inputs)
    is_graded = options.queries_model or options.judgements is not None
    for option, is_given, required, is_met in (
        ("--judge-model", options.judge_model is not None, "--judge URL", options.queries_model),
        ("--judge-cache", options.judge_cache is not None, "--judge URL", options.queries_model),
        ("--judge-prompt", options.judge_prompt is not None, "--judge URL or --judgements", is_graded),
        ("--videos", options.videos is not None, "--html", options.html is not None),
        ("--per-item", options.per_item, "--json", options.json_path is not None),
    ):
        if is_given and not is_met:
            raise OptionError(f"{option} has no effect without {required}; add that option, or leave {option} out")
    if options.queries_model and options.judge_model is None:
        raise OptionError(f"--judge {options.judge} needs --judge-model: the name of the model at that endpoint")
    check_benchmark_options(options)


def check_benchmark_options(options: EvaluateOptions) -> None:
    """Raise ``OptionError`` for an option that the benchmark does not have, and for missing annotations."""
    from mmduet.errors import OptionError
    from mmduet.evaluation.run_benchmark import MAX_GRADES, accepted_options, check_annotations

    accepted = accepted_options(options.benchmark)
    given = {**options.evaluator_options, "similarity": options.similarities}
    unknown = [name for name, value in given.items() if value is not None and name not in {*accepted, "seed"}]
    if options.judge is not None and options.benchmark not in MAX_GRADES:
        unknown.append("judge")
    if unknown:
        name = {"prompt": "judge_prompt", "similarity": "similarities"}.get(unknown[0], unknown[0])
        raise OptionError(f"--{name.replace('_', '-')} does not apply to {options.benchmark}; leave it out")
    check_annotations(options.benchmark, options.annotations or ())


@contextmanager
def evaluator_arguments(options: EvaluateOptions) -> Iterator[dict[str, Any]]:
    """Yield the arguments of the evaluator, with the similarities loaded and the judge open while the block runs."""
    from mmduet.evaluation.judges.open_judge import open_judge
    from mmduet.evaluation.run_benchmark import MAX_GRADES
    from mmduet.evaluation.scorers.sentence_similarity import read_similarities

    arguments = options.evaluator_options
    if options.similarities is not None:
        arguments["similarity"] = read_similarities(options.similarities)
    if options.judge is None:
        yield arguments
        return
    predictions = options.predictions
    cache = options.judge_cache or predictions.with_name(f"{predictions.name}.judge.jsonl")
    with open_judge(options.judge, options.judge_model or "", cache, MAX_GRADES[options.benchmark]) as judge:
        yield {**arguments, "judge": judge}


def show(report: Report) -> None:
    """Print the metrics to stdout, notes and problems to stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.benchmark}, profile {report.profile}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    if report.intervals:
        table.add_column("95 % interval", justify="right")
    for name, value in report.metrics.items():
        text = f"{value:.2f}" if isinstance(value, float) else str(value)
        row = [name, "-" if value != value else text]
        if report.intervals:
            interval = report.intervals.get(name)
            row.append(f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "")
        table.add_row(*row)
    Console(soft_wrap=True).print(table)
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in report.notes:
        stderr.print(f"note: {note}", markup=False)
    for problem in report.problems[:MAX_PROBLEMS]:
        stderr.print(f"problem: {problem}", markup=False)
    if len(report.problems) > MAX_PROBLEMS:
        stderr.print(f"and {len(report.problems) - MAX_PROBLEMS} more problems; --json lists all of them")


def write_files(options: EvaluateOptions, report: Report, arguments: dict[str, Any]) -> None:
    """Write the report as JSON and as an HTML page, as far as requested."""
    from mmduet import __version__
    from mmduet.evaluation.run_benchmark import describe_options
    from mmduet.files import write_json
    from mmduet.reports import write_html_report

    if options.json_path is not None:
        content = report.to_dict(per_item=options.per_item) | {
            "mmduet": __version__,
            "files": [str(options.predictions), *map(str, options.annotations or ())],
            "options": describe_options(arguments),
            "count": len(report.items),
        }
        write_json(options.json_path, content, indent=2)
    if options.html is not None:
        write_html_report(
            options.html,
            report,
            predictions=options.predictions,
            annotations=options.annotations,
            videos=options.videos,
        )
