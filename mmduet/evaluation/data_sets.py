"""The data sets that the benchmark scripts run on: where their files lie, and whether a local copy is all there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmduet.annotations import grounding_files, qvhighlights_files
from mmduet.annotations.prediction_files import Example, read_test_set
from mmduet.annotations.segment_files import read_events
from mmduet.errors import AnnotationError, MmduetError, OptionError
from mmduet.evaluation.benchmarks import spoken
from mmduet.video import VideoFile

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DataSet:
    """``test_set`` lies in the data set's folder, beside ``videos/``; ``source`` is where people get it.

    ``read_truth`` is what the evaluator reads of the test set.
    """

    name: str
    test_set: str
    source: str
    read_truth: Callable[[Path], object]


DATA_SETS = {
    one.name: one
    for one in (
        DataSet("youcook2", "dense_captioning_test.json", "youcook2.eecs.umich.edu; MMDuet's test file", read_events),
        DataSet("magqa", "magqa_test.json", "Shot2Story's videos; MMDuet's MAGQA test file", spoken.read_asked),
        DataSet(
            "charades",
            "grounding_test.json",
            "prior.allenai.org/projects/charades; MMDuet's test file",
            grounding_files.read_gold,
        ),
        DataSet(
            "qvh",
            "highlights.jsonl",
            "github.com/jayleicn/moment_detr: highlight_val_release.jsonl and videos",
            qvhighlights_files.read_queries,
        ),
    )
}


@dataclass
class Checked:
    """What was found: faults by question or video; ``questions`` and ``videos`` count what is there."""

    questions: int = 0
    videos: int = 0
    faults: list[str] = field(default_factory=list)


def check(name: str, folder: Path, progress: Progress = lambda done, total: None) -> Checked:
    """Parse the annotations, the truth in them as the evaluator reads it, and open every video that they name.

    Raises ``OptionError`` for a data set or folder that is not there, ``AnnotationError`` for a test set that names no videos.
    """
    if name not in DATA_SETS:
        raise OptionError(f"there is no data set {name!r}; there are {', '.join(DATA_SETS)}")
    known = DATA_SETS[name]
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder; put {name} there ({known.source}), or name another by --dir")
    examples = read_test_set(folder / known.test_set)
    names = sorted({example.video for example in examples})
    found = Checked(len(examples), 0, [*_faults_of_questions(examples), *_faults_of_truth(known, folder)])
    for done, video in enumerate(names, 1):
        fault = _fault_of_video(folder / "videos" / video)
        found.videos += fault is None
        if fault is not None:
            found.faults.append(fault)
        progress(done, len(names))
    return found


def _faults_of_questions(examples: list[Example]) -> Iterator[str]:
    if not examples:
        yield "the test set holds no question"
    for example in examples:
        if not example.queries:
            yield f"question {example.question_id} asks nothing"


def _faults_of_truth(known: DataSet, folder: Path) -> Iterator[str]:
    """What the evaluator would refuse once all had been predicted."""
    try:
        known.read_truth(folder / known.test_set)
    except AnnotationError as error:
        yield f"cannot be evaluated: {error}"


def _fault_of_video(path: Path) -> str | None:
    try:
        with VideoFile(path):
            return None
    except MmduetError as error:
        return str(error)
