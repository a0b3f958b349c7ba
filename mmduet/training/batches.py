"""Draw the batch of any step from samples and their frames, as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmduet.annotations.training_samples import Sample, SampleKind, crop
from mmduet.errors import TrainingError
from mmduet.events import Query
from mmduet.model.tokenizer import Tokenizer
from mmduet.training.collate import Batch, Labels, collate
from mmduet.training.frames import FrameStore
from mmduet.training.sequence import TrainingSequence, build_sequence


class LabelProvider(Protocol):
    """Provides auxiliary labels and side questions from annotations that a recipe has beyond the duet's own."""

    def describe(self, video: str, time: float) -> str:
        """Return what is visible at ``time``, as text: the answer to a side question."""

    def labels(self, sample: Sample, times: NDArray[np.float64]) -> Labels:
        """Return the auxiliary labels of a sample whose frames are at ``times``, seconds in the whole video."""

    def unanswerable_query(self, video: str, rng: np.random.Generator) -> str:
        """Return a query that nothing in the video answers."""


#: (video, first frame, number of frames) to the model's visual input: images, or features of them.
VisualLoader = Callable[[str, int, int], Tensor]


@dataclass(frozen=True)
class CurriculumStage:
    """The lengths and kinds of samples in one stage of training. A batch has one length, so no frame is padding."""

    frames: tuple[int, ...]
    shares: tuple[tuple[SampleKind, float], ...] = (("captioning", 0.35), ("qa", 0.35), ("grounding", 0.3))
    until: float = 1.0  # the share of all steps at which the stage ends
    auxiliary_weight: float = 1.0  # weight of the auxiliary losses relative to the duet's
    unanswerable_share: float = 0.0  # share of QA samples that get a query which nothing in the video answers
    without_query_share: float = 0.0  # share of QA samples that get no query


@dataclass(frozen=True)
class SamplingConfig:
    """How batches are drawn."""

    stages: tuple[CurriculumStage, ...] = (CurriculumStage((10, 16, 22, 28)),)
    max_frames_per_batch: int = 256
    max_samples: int = 48  # per batch, however short the samples are
    keep_replies: float = 0.25  # share of samples whose replies stay in the conversation
    instructions: tuple[str, ...] = ("Narrate the scene.",)
    frames_per_side_question: int = 8  # at least one side question per sample
    side_questions: tuple[str, ...] = ("What do you see?",)
    window: int | None = None  # frames in view, as when serving; longer samples make the window slide

    def stage_at(self, progress: float) -> CurriculumStage:
        """Return the stage at ``progress``, a share of all steps."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def batch_size(self, frames: int) -> int:
        """Return how many samples of ``frames`` frames make a batch."""
        return max(1, min(self.max_samples, self.max_frames_per_batch // frames))

    @property
    def max_frames(self) -> int:
        """The number of frames of the longest sample."""
        return max(n for stage in self.stages for n in stage.frames)

    @property
    def kinds(self) -> set[SampleKind]:
        """The kinds of sample that any stage draws."""
        return {kind for stage in self.stages for kind, share in stage.shares if share > 0}


class BatchSampler:
    """Draws batches; ``batch(step)`` returns the same batch for the same step."""

    def __init__(
        self,
        samples: Sequence[Sample],
        store: FrameStore,
        visual: VisualLoader,
        tokenizer: Tokenizer,
        frame_tokens: int,
        sampling: SamplingConfig,
        seed: int,
        steps: int,
        label_provider: LabelProvider | None = None,
    ) -> None:
        """``steps`` is the total number of batches: the stages are shares of it.

        Raises ``TrainingError`` if the videos are too short, or if unanswerable queries are requested without a provider.
        """
        if label_provider is None and any(stage.unanswerable_share > 0 for stage in sampling.stages):
            raise TrainingError("unanswerable_share is above 0 but there is no label provider; pass label_provider")
        self._by_kind = {kind: [s for s in samples if s.kind == kind] for kind in sampling.kinds}
        for kind, pool in self._by_kind.items():
            longest = max((len(store.times(s.video)) for s in pool), default=0)
            if longest < sampling.max_frames:
                raise TrainingError(
                    f"{kind}: a stage needs samples of {sampling.max_frames} frames, but the longest video has {longest}; "
                    "provide longer videos or use shorter samples"
                )
        self._steps = steps
        self._store, self._visual, self._tokenizer, self._frame_tokens = store, visual, tokenizer, frame_tokens
        self._sampling, self._seed, self._label_provider = sampling, seed, label_provider

    def batch(self, step: int) -> Batch:
        """Draw the batch of ``step``. Drawing ahead in a thread was slower on two cores, because of the GIL."""
        rng = np.random.default_rng([self._seed, step])
        stage = self._sampling.stage_at(step / self._steps)
        frames = int(rng.choice(stage.frames))
        sequences, visual = [], []
        auxiliary: list[Labels] = []
        for _ in range(self._sampling.batch_size(frames)):
            sample, first = self._draw_sample(rng, stage, frames)
            times = self._store.times(sample.video)[first : first + frames]
            sequences.append(self._build_sequence(sample, times, rng))
            visual.append(self._visual(sample.video, first, frames))
            if self._label_provider is not None:
                auxiliary.append(self._label_provider.labels(sample, times))
        return collate(sequences, visual, auxiliary)

    def _draw_sample(self, rng: np.random.Generator, stage: CurriculumStage, frames: int) -> tuple[Sample, int]:
        """Return a sample of at least ``frames`` frames, and the first frame of its crop."""
        kinds, shares = zip(*[pair for pair in stage.shares if pair[1] > 0], strict=True)
        pool = self._by_kind[kinds[int(rng.choice(len(kinds), p=np.array(shares) / sum(shares)))]]
        sample = pool[int(rng.integers(len(pool)))]
        while len(self._store.times(sample.video)) < frames:
            sample = pool[int(rng.integers(len(pool)))]
        if sample.kind == "qa" and stage.unanswerable_share + stage.without_query_share > 0:
            sample = self._vary_query(sample, stage, rng)
        first = int(rng.integers(len(self._store.times(sample.video)) - frames + 1))
        return sample, 0 if rng.random() < 0.3 else first  # 30% from the beginning, where the model starts when serving

    def _vary_query(self, sample: Sample, stage: CurriculumStage, rng: np.random.Generator) -> Sample:
        """Return the sample at random without its query, with an unanswerable one, or unchanged."""
        draw = rng.random()
        if draw < stage.without_query_share:
            return replace(sample, queries=(), answers=())
        if draw < stage.without_query_share + stage.unanswerable_share and self._label_provider is not None:
            query = Query(self._label_provider.unanswerable_query(sample.video, rng))
            return replace(sample, queries=(query,), answers=())
        return sample

    def _build_sequence(self, sample: Sample, times: NDArray[np.float64], rng: np.random.Generator) -> TrainingSequence:
        cropped = self._add_instruction(crop(sample, float(times[0]), float(times[-1])), rng)
        return build_sequence(
            cropped,
            [float(t - times[0]) for t in times],
            self._tokenizer,
            self._frame_tokens,
            keep_replies=bool(rng.random() < self._sampling.keep_replies),
            rng=rng,
            side_questions=self._draw_side_questions(sample.video, times, rng),
            window=self._sampling.window,
        )

    def _draw_side_questions(
        self, video: str, times: NDArray[np.float64], rng: np.random.Generator
    ) -> list[tuple[int, str, str]]:
        if self._label_provider is None:
            return []
        count = max(1, len(times) // self._sampling.frames_per_side_question)
        frames = rng.choice(len(times), size=count, replace=False)
        questions = self._sampling.side_questions
        return [
            (
                int(k),
                questions[int(rng.integers(len(questions)))],
                self._label_provider.describe(video, float(times[k])),
            )
            for k in frames
        ]

    def _add_instruction(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.queries or sample.kind != "captioning":
            return sample
        instructions = self._sampling.instructions
        return replace(sample, queries=(Query(instructions[int(rng.integers(len(instructions)))]),))
