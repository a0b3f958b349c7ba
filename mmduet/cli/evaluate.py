"""``mmduet evaluate``: predictions against annotations, in the numbers that papers print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

if TYPE_CHECKING:
    from mmduet.evaluation.judges.judge import Judge
    from mmduet.evaluation.report import Report

Benchmark = Literal[
    "qvhighlights", "grounding", "dense-captioning", "magqa", "proactive", "ovo", "audio-description", "captions"
]
HIGHEST = {"magqa": 5, "proactive": 3}  # the judge's best grade
MOST_PROBLEMS_TOLD = 10
JUDGE = "magqa, proactive:"


Annotations = Annotated[
    list[Path] | None, Option(metavar="FILE", help="The test set; dense-captioning takes several references.")
]
EvaluationProfile = Annotated[
    Literal["fixed", "paper"], Option(help="Correct algorithms, or the original evaluators with their faults.")
]
Smoothing = Annotated[
    int | None,
    Option(
        max=10_000, help="qvhighlights, grounding: moving mean over this many frames on each side.", show_default="4"
    ),
]
Threshold = Annotated[
    float | None, Option(help="grounding: frames from this score on are in the span.", show_default="0.5")
]
Flavour = Annotated[
    str | None,
    Option(
        help="dense-captioning: whose evaluator: vid2seq (MMDuet's, TimeChat's), densevid2018, densevid2021, vidchapters.",
        show_default="vid2seq",
    ),
]
Similarities = Annotated[
    Path | None, Option(metavar="FILE.npz", help="audio-description: a matrix of sentence similarities a movie.")
]
JudgeAt = Annotated[
    str | None, Option(metavar="URL|exact", help=f"{JUDGE} an OpenAI-compatible endpoint; exact: equal words.")
]
JudgeCache = Annotated[
    Path | None,
    Option(metavar="FILE", help=f"{JUDGE} where replies are kept.", show_default="PREDICTIONS.judge.jsonl"),
]
JudgePrompt = Annotated[
    Path | None, Option(metavar="FILE", help=f"{JUDGE} with {{question}}, {{gold}} and {{answer}}.")
]
Padded = Annotated[int | None, Option(help="magqa: questions of the test set; those without a line are padded.")]


def evaluate(
    benchmark: Annotated[Benchmark, Argument(help="What is evaluated.", show_default=False)],
    predictions: Annotated[Path, Option(metavar="FILE", help="What a model made of the test set.")],
    annotations: Annotations = None,
    profile: EvaluationProfile = "fixed",
    json_path: Annotated[Path | None, Option("--json", metavar="OUT", help="Write the report as JSON.")] = None,
    html: Annotated[Path | None, Option(metavar="OUT", help="Write it as a page, with curves and worst cases.")] = None,
    videos: Annotated[Path | None, Option(metavar="DIR", help="Videos, for the film strips of the page.")] = None,
    per_item: Annotated[bool, Option("--per-item", help="Numbers of every query or video in the JSON, too.")] = False,
    strict: Annotated[bool, Option("--strict", help="Predictions that cannot be used as they are end it.")] = False,
    smoothing: Smoothing = None,
    threshold: Threshold = None,
    sample: Annotated[bool | None, Option("--sample", help="grounding: only queries that were predicted.")] = None,
    flavour: Flavour = None,
    similarities: Similarities = None,
    judge: JudgeAt = None,
    judge_model: Annotated[str | None, Option(metavar="NAME", help=f"{JUDGE} the model at that endpoint.")] = None,
    judge_cache: JudgeCache = None,
    judgements: Annotated[Path | None, Option(metavar="FILE", help=f"{JUDGE} replies that were given before.")] = None,
    judge_prompt: JudgePrompt = None,
    num_examples: Padded = None,
    seed: Annotated[int | None, Option(min=0, help="Of the bootstrap.", show_default="0")] = None,
) -> None:
    """Compute a benchmark's metrics. Predictions are those of `mmduet predict`, or files in the field's own formats.

    The key of a judge comes from the environment variable MMDUET_JUDGE_KEY.
    """
    check(**locals())
    import mmduet
    from mmduet.files import write_json

    asked = {
        "smoothing": smoothing, "threshold": threshold, "sample": sample, "flavour": flavour, "seed": seed,
        "judgements": judgements, "prompt": judge_prompt, "num_examples": num_examples,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if similarities is not None:
        from mmduet.evaluation.scorers.sentence_similarity import read_similarities

        given["similarity"] = read_similarities(similarities)
    with ExitStack() as last:
        if judge is not None:
            cache = judge_cache or predictions.with_name(f"{predictions.name}.judge.jsonl")
            given["judge"] = last.enter_context(judge_of(benchmark, judge, judge_model, cache))
        report = evaluated(benchmark, predictions, annotations, profile=profile, strict=strict, **given)
    show(report)
    if json_path is not None:
        files = [str(predictions), *map(str, annotations or ())]
        made = {"mmduet": mmduet.__version__, "files": files, "options": told(given), "count": len(report.items)}
        write_json(json_path, report.to_dict(per_item=per_item) | made, indent=2)
    if html is not None:
        from mmduet.reports import write_html_report

        write_html_report(html, report, predictions=predictions, annotations=annotations, videos=videos)


def check(**values: Any) -> None:
    """Raise ``OptionError`` for files that could not be written in the end, and for options that would do nothing."""
    from mmduet.cli._output_files import check_output_files
    from mmduet.errors import OptionError

    judge, asks = values["judge"], values["judge"] not in (None, "exact")
    others = (values[name] for name in ("judgements", "judge_prompt", "similarities"))
    read = [values["predictions"], *(values["annotations"] or ()), *(file for file in others if file is not None)]
    written = {"--json": values["json_path"], "--html": values["html"], "--judge-cache": values["judge_cache"]}
    check_output_files(written, *read)
    refuse_alone({name: values[name] for name in ("judge_model", "judge_cache")}, "--judge URL", asks)
    graded = asks or values["judgements"] is not None
    refuse_alone({"judge_prompt": values["judge_prompt"]}, "--judge URL or --judgements", graded)
    refuse_alone({"videos": values["videos"]}, "--html", values["html"] is not None)
    refuse_alone({"per_item": values["per_item"] or None}, "--json", values["json_path"] is not None)
    if asks and values["judge_model"] is None:
        raise OptionError(f"--judge {judge} has many models, perhaps; name one by --judge-model")


def refuse_alone(options: Mapping[str, object], partner: str, given: bool) -> None:
    """Raise ``OptionError`` for an option that does nothing without its ``partner``."""
    from mmduet.errors import OptionError

    for option, value in options.items():
        if value is not None and not given:
            raise OptionError(
                f"--{option.replace('_', '-')} does nothing without {partner}; give that too, or leave it out"
            )


def evaluated(benchmark: Benchmark, predictions: Path, annotations: list[Path] | None, **given: Any) -> Report:
    """The benchmark's own ``evaluate``. Raises ``OptionError`` for what it has no use for."""
    from importlib import import_module
    from inspect import signature

    from mmduet.annotations.prediction_settings import from_other_test_set
    from mmduet.cli._progress import progress_bar
    from mmduet.errors import AnnotationError, OptionError
    from mmduet.evaluation.intervals import add_intervals

    name = benchmark.replace("-", "_")
    run = import_module(f"mmduet.evaluation.benchmarks.{name}").evaluate
    known = signature(run).parameters
    if useless := sorted(set(given) - set(known) - {"seed"}):
        option = {"prompt": "judge-prompt", "similarity": "similarities"}.get(useless[0], useless[0]).replace("_", "-")
        raise OptionError(f"--{option} means nothing to {benchmark}; leave it out")
    if known["annotations"].default is known["annotations"].empty and not annotations:
        raise OptionError(f"{benchmark} needs --annotations: the test set that was predicted")
    several = name == "dense_captioning"
    if annotations and len(annotations) > 1 and not several:
        raise OptionError(f"{benchmark} takes one file of annotations, not {len(annotations)}")
    seed = given.pop("seed", 0)
    if "seed" in known:
        given["seed"] = seed
    gold = annotations if several else next(iter(annotations or ()), None)
    with progress_bar("judging") as bar:
        report = run(predictions, gold, **given, **({"progress": bar} if "progress" in known else {}))
    if all(isnan(value) for value in report.metrics.values()):
        first = "".join(f", {problem}" for problem in report.problems[:1])
        raise AnnotationError(
            f"{predictions}: nothing in it can be evaluated{first}; give other predictions or annotations"
        )
    if from_other_test_set(predictions, [path for path in annotations or () if path.is_file()]):
        other = f"{predictions.name} was made for another test set than these annotations; only the ids were compared."
        report = replace(report, notes=[*report.notes, other])
    return add_intervals(report, seed)


@contextmanager
def judge_of(benchmark: Benchmark, url: str, model: str | None, cache: Path) -> Iterator[Judge]:
    """The judge at ``url``, whose replies are kept in ``cache``; ``exact`` needs neither."""
    from mmduet.errors import OptionError
    from mmduet.evaluation.judges.chat_judge import ChatJudge
    from mmduet.evaluation.judges.judge import ExactJudge
    from mmduet.evaluation.judges.judgement_files import CachedJudge

    if benchmark not in HIGHEST:
        raise OptionError(f"--judge means nothing to {benchmark}; leave it out")
    if url == "exact":
        yield ExactJudge(HIGHEST[benchmark])
        return
    with ChatJudge(url, model or "") as judge:
        yield CachedJudge(judge, cache)


def told(given: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON has them: a judge by its model's name, a table of similarities by its size."""
    named = {"judge": lambda judge: judge.model, "similarity": len}
    plain = {name: named.get(name, lambda value: value)(value) for name, value in given.items()}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


def show(report: Report) -> None:
    """The numbers on stdout, what is to be known of them on stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.benchmark}, profile {report.profile}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    if report.intervals:
        table.add_column("95 % interval", justify="right")
    for name, value in report.metrics.items():
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        interval = report.intervals.get(name)
        row = [name, "-" if value != value else shown]
        table.add_row(
            *row, *([f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else ""] if report.intervals else [])
        )
    Console(soft_wrap=True).print(table)
    aside = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in report.notes:
        aside.print(f"note: {note}", markup=False)
    for problem in report.problems[:MOST_PROBLEMS_TOLD]:
        aside.print(f"problem: {problem}", markup=False)
    if len(report.problems) > MOST_PROBLEMS_TOLD:
        aside.print(f"and {len(report.problems) - MOST_PROBLEMS_TOLD} problems more; --json lists them all")
