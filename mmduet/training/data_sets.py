"""Read the samples of a recipe's data sets. It imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmduet.annotations.conversation_files import read_conversations
from mmduet.annotations.training_samples import Sample, read_dense_captioning, read_grounding, read_magqa
from mmduet.errors import AnnotationError
from mmduet.training.recipe import DataSet

Reader = Callable[[Path], list[Sample]]
READERS: Mapping[str, Reader] = {
    "captioning": read_dense_captioning,
    "magqa": read_magqa,
    "grounding": read_grounding,
    "conversations": read_conversations,
}
SCENES_FILES: Mapping[str, Reader] = {
    "dense_captioning.json": read_dense_captioning,
    "magqa.json": read_magqa,
    "grounding.json": read_grounding,
}
SCENES_VIDEOS = "videos"  # folder within a split
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")  # that annotations may leave out


@dataclass(frozen=True)
class SourceSample:
    """An annotated sample with its video file. ``id`` names it in messages: the data set, and its number in the file."""

    sample: Sample
    path: Path
    set_name: str
    id: str


def read_data_sets(sets: Sequence[DataSet]) -> list[SourceSample]:
    """Return the samples of all sets, in order. Videos are not opened.

    Raises ``AnnotationError`` if a file cannot be read or has no samples, naming the entry.
    """
    return [sample for each in sets for sample in _read_set(each)]


def _read_set(data_set: DataSet) -> Iterator[SourceSample]:
    for prefix, path, videos, read in _annotation_files(data_set):
        samples = read(path)
        if not samples:
            raise AnnotationError(f"{path} has no samples; check that it is the right file, or remove the data set")
        paths = {name: _find_video(videos, name) for name in {sample.video for sample in samples}}
        for number, sample in enumerate(samples):
            yield SourceSample(_sorted(sample), paths[sample.video], data_set.name, f"{prefix}/{number}")


def _annotation_files(data_set: DataSet) -> Iterator[tuple[str, Path, Path, Reader]]:
    """Yield for each file of a set: the prefix of its ids, its path, the folder of its videos, and its reader."""
    if data_set.annotations is not None:
        yield data_set.name, data_set.annotations, data_set.videos, READERS[data_set.kind]
        return
    for file, read in SCENES_FILES.items():
        prefix = f"{data_set.name}/{Path(file).stem}"
        yield prefix, data_set.videos / file, data_set.videos / SCENES_VIDEOS, read


def _find_video(folder: Path, name: str) -> Path:
    """Return the path of a video, whose name may lack its suffix."""
    path = folder / name
    if path.exists():
        return path
    candidates = (path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES)
    return next((candidate for candidate in candidates if candidate.exists()), path)


def _sorted(sample: Sample) -> Sample:
    """Return the sample with its queries and answers in the order of time, on which the labels depend."""
    queries, answers = sample.queries, sample.answers
    return replace(
        sample,
        queries=tuple(sorted(queries, key=lambda query: query.time)),
        answers=tuple(sorted(answers, key=lambda answer: answer.time)),
    )
