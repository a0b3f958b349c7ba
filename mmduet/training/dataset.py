"""The training data set: each item is built, and its frames are decoded, when it is requested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmduet.annotations.training_samples import Sample, visible_part
from mmduet.duet import IGNORE, Role, check_no_markers
from mmduet.errors import FormatError, VideoError
from mmduet.events import Query
from mmduet.model.config import DuetConfig
from mmduet.model.tokenizer import Tokenizer
from mmduet.progress import ProgressCallback
from mmduet.training.data_sets import SourceSample
from mmduet.training.frame_choice import choose_frames, read_frames
from mmduet.training.recipe import Sampling
from mmduet.training.sequence import TrainingSequence, build_sequence
from mmduet.training.video_index import Times, VideoIndex


@dataclass(frozen=True)
class PreparedSample:
    """The part of a sample that is trained on.

    Attributes:
        sample: Its queries, with the drawn instruction, and answers; times count from the start of the video.
        times: The times of its frames [F].
        sequence: Tokens, targets and labels.
    """

    sample: Sample
    times: Times
    sequence: TrainingSequence


@dataclass(frozen=True)
class TrainingItem:
    """One sample, ready to be collated: ``images`` is uint8 [F, S, S, 3], ``times`` [F] in seconds."""

    id: str
    sequence: TrainingSequence
    images: Tensor
    times: Times


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be trained on."""

    id: str
    reason: str

    def __str__(self) -> str:
        """Return a message that names the sample."""
        return f"sample {self.id}: {self.reason}"


class DuetDataset(Dataset[TrainingItem | BadSample]):
    """Samples by (epoch, index); the same key gives the same item in any process."""

    def __init__(
        self,
        samples: Sequence[SourceSample],
        index: VideoIndex,
        sampling: Mapping[str, Sampling],
        tokenizer: Tokenizer,
        config: DuetConfig,
        seed: int = 0,
    ) -> None:
        """``index`` has every video under its path, see ``scan_videos``; ``sampling`` has the options of every data set."""
        self.samples = samples
        self._index, self._sampling, self._tokenizer, self._config = index, sampling, tokenizer, config
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> TrainingItem | BadSample:
        """Return the sample of a key (epoch, index) with its frames."""
        prepared, source = self.prepare(*key), self.samples[key[1]]
        if isinstance(prepared, BadSample):
            return prepared
        try:
            images = read_frames(source.path, prepared.times, self._config.vision.image_size)
        except VideoError as error:
            return BadSample(source.id, str(error))
        return TrainingItem(source.id, prepared.sequence, torch.from_numpy(images), prepared.times)

    def prepare(self, epoch: int, index: int) -> PreparedSample | BadSample:
        """Return the sample without its frames; nothing is decoded."""
        source, times = self.samples[index], self.frame_times(index)
        if reason := self._reason_against(source, times):
            return BadSample(source.id, reason)
        rng, sampling = np.random.default_rng([self._seed, epoch, index]), self._sampling[source.set_name]
        try:
            prepared = self._prepare(source, choose_frames(source.sample, times, sampling, rng), rng)
            if not is_supervised(prepared.sequence):  # the crop is within an event that began before it
                prepared = self._prepare(source, choose_frames(source.sample, times, sampling, None), rng)
        except FormatError as error:
            return BadSample(source.id, str(error))
        reason = self._reason_against_sequence(prepared.sequence)
        return BadSample(source.id, reason) if reason else prepared

    def frame_times(self, index: int) -> Times:
        """Return the times of all frames of a sample's video at its frame rate; none if the video cannot be read."""
        source = self.samples[index]
        fps = self._sampling[source.set_name].fps or self._config.recommended.fps
        return self._index.frames(str(source.path), fps)

    def lengths(self, epoch: int, progress: ProgressCallback = lambda done, total: None) -> list[int]:
        """Return the number of tokens of every sample in an epoch; 0 for one that cannot be trained on."""
        lengths = []
        for index in range(len(self)):
            prepared = self.prepare(epoch, index)
            lengths.append(0 if isinstance(prepared, BadSample) else prepared.sequence.size)
            progress(index + 1, len(self))
        return lengths

    def _prepare(self, source: SourceSample, times: Times, rng: np.random.Generator) -> PreparedSample:
        """Build the sample from the frames at ``times``."""
        sampling = self._sampling[source.set_name]
        visible = visible_part(source.sample, float(times[0]), float(times[-1]))
        sample = add_prompt(visible, sampling, rng)
        check_texts(sample)
        sequence = build_sequence(
            sample,
            times.tolist(),
            self._tokenizer,
            self._config.frame_tokens,
            keep_replies=bool(rng.random() < sampling.keep_replies),
            rng=rng,
            window=sampling.window,
        )
        return PreparedSample(sample, times, sequence)

    def _reason_against(self, source: SourceSample, times: Times) -> str:
        """Return why a sample cannot be trained on, or an empty text."""
        if not len(times):
            return "; ".join(self._index.problems(str(source.path))) or f"{source.path} has no frames"
        queries = source.sample.queries
        if source.sample.kind == "qa" and queries and queries[0].time > times[-1]:
            return f"the question at {queries[0].time:g} s is after the last frame of {source.path} at {times[-1]:g} s"
        return ""

    def _reason_against_sequence(self, sequence: TrainingSequence) -> str:
        """Return why a sequence cannot be trained on, or an empty text."""
        if not is_supervised(sequence):
            return "it has no supervised token: no reply that is learned, and no labelled frame"
        tokens, limit = max(sequence.positions) + 1, self._config.text.max_positions
        if tokens > limit:
            return f"it has {tokens} tokens, but the model has {limit} positions; lower sampling.max_frames"
        return ""


def scan_videos(
    samples: Sequence[SourceSample],
    cache: Path | None = None,
    workers: int = 1,
    progress: ProgressCallback = lambda done, total: None,
) -> VideoIndex:
    """Return the index of the videos of all samples, see ``VideoIndex.scan``."""
    return VideoIndex.scan({str(source.path): source.path for source in samples}, cache, workers, progress)


def add_prompt(sample: Sample, sampling: Sampling, rng: np.random.Generator) -> Sample:
    """Return the sample with a drawn instruction if it has no query, and with a grounding query in a drawn template."""
    if sample.kind == "grounding":
        template = _draw(sampling.grounding_templates, rng)
        queries = tuple(replace(query, text=template.replace("{query}", query.text)) for query in sample.queries)
        return replace(sample, queries=queries)
    if sample.queries:
        return sample
    return replace(sample, queries=(Query(_draw(sampling.instructions, rng)),))


def is_supervised(sequence: TrainingSequence) -> bool:
    """Return whether any token or frame of a sequence has a target."""
    return any(target != IGNORE for target in (*sequence.targets, *sequence.informative, *sequence.relevance))


def check_texts(sample: Sample) -> None:
    """Raise ``FormatError`` if a text contains a marker that opens or closes turns."""
    for query in sample.queries:
        check_no_markers(query.text, Role.USER)
    for answer in sample.answers:
        check_no_markers(answer.text, Role.ASSISTANT)


def _draw(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
