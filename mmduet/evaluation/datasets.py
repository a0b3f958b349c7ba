"""The data sets of the benchmark scripts: the layout of their files, and a check that a local copy is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmduet.annotations import grounding_files, qvhighlights_files
from mmduet.annotations.dense_captioning_files import read_events
from mmduet.annotations.test_sets import Example, read_questions, read_test_set
from mmduet.errors import AnnotationError, MmduetError, OptionError
from mmduet.progress import ProgressCallback
from mmduet.text import did_you_mean
from mmduet.video import VideoFile


@dataclass(frozen=True)
class Dataset:
    """A data set in a folder with ``test_set`` and ``videos/``.

    ``source`` describes where to get it; ``read_gold`` reads the gold annotations as the evaluator does.
    """

    name: str
    test_set: str
    source: str
    read_gold: Callable[[Path], object]


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("youcook2", "dense_captioning_test.json", "youcook2.eecs.umich.edu; MMDuet's test file", read_events),
        Dataset("magqa", "magqa_test.json", "Shot2Story's videos; MMDuet's MAGQA test file", read_questions),
        Dataset(
            "charades",
            "grounding_test.json",
            "prior.allenai.org/projects/charades; MMDuet's test file",
            grounding_files.read_queries,
        ),
        Dataset(
            "qvh",
            "highlights.jsonl",
            "github.com/jayleicn/moment_detr: highlight_val_release.jsonl and videos",
            qvhighlights_files.read_queries,
        ),
    )
}


@dataclass
class DatasetReport:
    """The result of a check: the numbers of questions and of readable videos, and a message per problem."""

    questions: int = 0
    videos: int = 0
    problems: list[str] = field(default_factory=list)


def check_dataset(name: str, folder: Path, progress: ProgressCallback = lambda done, total: None) -> DatasetReport:
    """Parse the annotations, also as the evaluator reads them, and open every video that they name.

    Raises:
        OptionError: the data set is unknown, or ``folder`` does not exist.
        AnnotationError: the test set cannot be read.
    """
    if name not in DATASETS:
        raise OptionError(
            f"unknown data set {name!r}{did_you_mean(name, DATASETS)} expected one of {', '.join(DATASETS)}"
        )
    dataset = DATASETS[name]
    if not folder.is_dir():
        raise OptionError(
            f"{folder} is not a folder; put {name} there ({dataset.source}), or give its folder with --dir"
        )
    examples = read_test_set(folder / dataset.test_set)
    names = sorted({example.video for example in examples})
    report = DatasetReport(len(examples), 0, [*_question_problems(examples), *_gold_problems(dataset, folder)])
    for done, video in enumerate(names, 1):
        problem = _video_problem(folder / "videos" / video)
        report.videos += problem is None
        if problem is not None:
            report.problems.append(problem)
        progress(done, len(names))
    return report


def _question_problems(examples: list[Example]) -> Iterator[str]:
    if not examples:
        yield "the test set has no questions"
    for example in examples:
        if not example.queries:
            yield f"question {example.question_id} has no query"


def _gold_problems(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Yield what the evaluator would reject after the prediction run."""
    try:
        dataset.read_gold(folder / dataset.test_set)
    except AnnotationError as error:
        yield f"cannot be evaluated: {error}"


def _video_problem(path: Path) -> str | None:
    try:
        with VideoFile(path):
            return None
    except MmduetError as error:
        return str(error)
