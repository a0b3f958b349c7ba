"""Open the data of a recipe, and check it before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.model.config import DuetConfig
from mmduet.model.description import read_description
from mmduet.model.tokenizer import Tokenizer
from mmduet.progress import ProgressCallback
from mmduet.training.data_sets import SourceSample, read_data_sets
from mmduet.training.dataset import BadSample, DuetDataset, PreparedSample, scan_videos
from mmduet.training.recipe import DataSet, Recipe
from mmduet.training.video_index import Times, VideoIndex

HEADS = ("informative", "relevance")


@dataclass
class SetCounts:
    """What a data set has in one epoch.

    Attributes:
        replies: Replies to be learned in the whole videos.
        unreachable: Those of them that no frame can trigger at the set's frame rate.
        labels: Frames by (head, label).
    """

    samples: int = 0
    frames: int = 0
    tokens: int = 0
    longest: int = 0  # tokens of the longest sample
    replies: int = 0
    unreachable: int = 0
    labels: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, prepared: PreparedSample) -> None:
        """Count a sample of the epoch."""
        self.samples += 1
        self.frames += len(prepared.times)
        self.tokens += prepared.sequence.size
        self.longest = max(self.longest, prepared.sequence.size)
        for head in HEADS:
            self.labels.update((head, label) for label in getattr(prepared.sequence, head) if label != IGNORE)


@dataclass
class DataReport:
    """The result of a check: counts by data set, the number of videos without a problem, and a message per problem."""

    sets: dict[str, SetCounts]
    videos: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """The number of samples that can be trained on."""
        return sum(counts.samples for counts in self.sets.values())


def all_sets(recipe: Recipe) -> tuple[DataSet, ...]:
    """Return the data sets of a recipe, those for training first."""
    return (*recipe.data, *recipe.validation.data)


def make_dataset(
    recipe: Recipe, samples: Sequence[SourceSample], index: VideoIndex, config: DuetConfig, tokenizer: Tokenizer
) -> DuetDataset:
    """Return the data set of ``samples`` of the recipe's data sets, sampled as the recipe describes."""
    sampling = {each.name: recipe.sampling_for(each) for each in all_sets(recipe)}
    return DuetDataset(samples, index, sampling, tokenizer, config, recipe.seed)


def check_recipe_data(
    recipe: Recipe,
    cache: Path | None = None,
    workers: int = 1,
    progress: ProgressCallback = lambda done, total: None,
) -> DataReport:
    """Parse all annotations of a recipe, read every video, and build every sample of the first epoch without its frames.

    Raises ``AnnotationError`` if a file cannot be read, ``ModelError`` if the recipe's model cannot be described.
    """
    config, tokenizer = read_description(recipe.model)
    samples = read_data_sets(all_sets(recipe))
    index = scan_videos(samples, cache, workers, progress)
    dataset = make_dataset(recipe, samples, index, config, tokenizer)
    paths = dict.fromkeys(str(source.path) for source in samples)
    report = DataReport({each.name: SetCounts() for each in all_sets(recipe)})
    report.problems += [problem for path in paths for problem in index.problems(path)]
    report.videos = sum(not index.problems(path) for path in paths)
    for number, source in enumerate(samples):
        _check_sample(dataset, number, source, report)
    return report


def _check_sample(dataset: DuetDataset, number: int, source: SourceSample, report: DataReport) -> None:
    times, counts = dataset.frame_times(number), report.sets[source.set_name]
    if not len(times):
        return  # the video's problem has been reported
    prepared = dataset.prepare(0, number)
    if isinstance(prepared, BadSample):
        report.problems.append(str(prepared))
        return
    counts.add(prepared)
    report.problems += [f"sample {source.id}: {problem}" for problem in _events_after(source.sample, times)]
    if source.sample.kind in ("captioning", "qa"):
        learned = [answer for answer in source.sample.answers if answer.learn]
        counts.replies += len(learned)
        counts.unreachable += sum(
            not _frames_between(times, sum(answer.timespan) / 2, answer.time) for answer in learned
        )
    elif source.sample.kind == "conversation":
        counts.replies += len(source.sample.answers)


def _events_after(sample: Sample, times: Times) -> Iterator[str]:
    """Yield a message for each event that begins after the last frame."""
    last = float(times[-1])
    events = [] if sample.kind == "conversation" else [*(answer.timespan for answer in sample.answers), *sample.spans]
    for start, end in events:
        if start > last:
            yield f"the event at {start:g} to {end:g} s is after the last frame of {sample.video} at {last:g} s"


def _frames_between(times: Times, start: float, end: float) -> int:
    return max(0, int(np.searchsorted(times, end, side="right") - np.searchsorted(times, start)))
