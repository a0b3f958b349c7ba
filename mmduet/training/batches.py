"""Draws the batch of any step from the samples and their frames, as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmduet.annotations.training_samples import Kind, Sample, crop
from mmduet.errors import TrainingError
from mmduet.events import Query
from mmduet.model.tokenizer import Tokenizer
from mmduet.training.collate import Batch, Lessons, collate
from mmduet.training.frames import FrameStore
from mmduet.training.layout import Layout, lay_out


class Tutor(Protocol):
    """Knows the truth about every frame; gives side questions and lessons in time."""

    def view(self, video: str, time: float) -> str:
        """What can be seen then, in words."""

    def lessons(self, sample: Sample, times: NDArray[np.float64]) -> Lessons:
        """Labels of the visual tokens and frames of a sample, at the video's own times."""

    def unanswered(self, video: str, rng: np.random.Generator) -> str:
        """A question that nothing in the video answers."""


#: (video, first frame, number of frames) to what the model is shown: pictures, or features of them.
Visual = Callable[[str, int, int], Tensor]


@dataclass(frozen=True)
class Phase:
    """How long the samples of a stretch of training are, and of which kinds; one length per batch, so no frame is padding."""

    frames: tuple[int, ...]
    shares: tuple[tuple[Kind, float], ...] = (("captioning", 0.35), ("qa", 0.35), ("grounding", 0.3))
    until: float = 1.0  # share of all steps at which it ends
    lesson_share: float = 1.0  # what the lessons' losses count for beside the duet's
    unanswered: float = 0.0  # share of questions that nothing in the video answers
    unasked: float = 0.0  # share of questions that are not asked at all


@dataclass(frozen=True)
class Mixture:
    """How a batch is drawn."""

    phases: tuple[Phase, ...] = (Phase((10, 16, 22, 28)),)
    frames_per_batch: int = 256  # at most
    most_samples: int = 48  # however short they are
    keep_replies: float = 0.25  # share of samples whose replies stay in the conversation
    instructions: tuple[str, ...] = ("Narrate the scene.",)
    frames_per_look: int = 8  # one side question for so many, but one at least
    look_questions: tuple[str, ...] = ("What do you see?",)
    window: int | None = None  # frames in view, as when it serves; longer samples have it slide

    def phase(self, progress: float) -> Phase:
        """The phase at ``progress``, a share of all steps."""
        return next((p for p in self.phases if progress < p.until), self.phases[-1])

    def size(self, frames: int) -> int:
        """Samples of ``frames`` frames that make a batch."""
        return max(1, min(self.most_samples, self.frames_per_batch // frames))

    @property
    def longest(self) -> int:
        """Frames of the longest sample it asks for."""
        return max(n for phase in self.phases for n in phase.frames)

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of sample it asks for."""
        return {kind for phase in self.phases for kind, share in phase.shares if share > 0}


class BatchSource:
    """``batch(step)``: the same step always gives the same batch."""

    def __init__(
        self,
        samples: Sequence[Sample],
        store: FrameStore,
        visual: Visual,
        tokenizer: Tokenizer,
        frame_tokens: int,
        mixture: Mixture,
        seed: int,
        steps: int,
        tutor: Tutor | None = None,
    ) -> None:
        """``steps`` is how many batches there will be: the mixture's phases are shares of them.

        Raises ``TrainingError`` for videos too short, and for unanswered questions without a tutor to find them.
        """
        if tutor is None and any(phase.unanswered > 0 for phase in mixture.phases):
            raise TrainingError("a phase wants questions that nothing answers; give a tutor, who knows what those are")
        self._by_kind = {kind: [s for s in samples if s.kind == kind] for kind in mixture.kinds}
        for kind, pool in self._by_kind.items():
            longest = max((len(store.times(s.video)) for s in pool), default=0)
            if longest < mixture.longest:
                raise TrainingError(
                    f"{kind}: batches of {mixture.longest} frames are wanted, its longest video has {longest}; give longer "
                    "videos, or ask for shorter samples"
                )
        self._steps = steps
        self._store, self._visual, self._tokenizer, self._frame_tokens = store, visual, tokenizer, frame_tokens
        self._mixture, self._seed, self._tutor = mixture, seed, tutor

    def batch(self, step: int) -> Batch:
        """Draw the batch of ``step``. Not ahead in a thread: that was slower on two cores, the GIL being in the way."""
        rng = np.random.default_rng([self._seed, step])
        phase = self._mixture.phase(step / self._steps)
        frames = int(rng.choice(phase.frames))
        layouts, visual = [], []
        lessons: list[Lessons] = []
        for _ in range(self._mixture.size(frames)):
            sample, first = self._sample(rng, phase, frames)
            cut = self._store.times(sample.video)[first : first + frames]
            layouts.append(self._layout(sample, cut, rng))
            visual.append(self._visual(sample.video, first, frames))
            if self._tutor is not None:
                lessons.append(self._tutor.lessons(sample, cut))
        return collate(layouts, visual, lessons)

    def _sample(self, rng: np.random.Generator, phase: Phase, frames: int) -> tuple[Sample, int]:
        """A sample of at least ``frames`` frames, and the first of those it is cropped to."""
        kinds, shares = zip(*[pair for pair in phase.shares if pair[1] > 0], strict=True)
        pool = self._by_kind[kinds[int(rng.choice(len(kinds), p=np.array(shares) / sum(shares)))]]
        sample = pool[int(rng.integers(len(pool)))]
        while len(self._store.times(sample.video)) < frames:
            sample = pool[int(rng.integers(len(pool)))]
        if sample.kind == "qa" and phase.unanswered + phase.unasked > 0:
            sample = self._silent(sample, phase, rng)
        first = int(rng.integers(len(self._store.times(sample.video)) - frames + 1))
        return sample, 0 if rng.random() < 0.3 else first  # beginnings matter as much as many other places together

    def _silent(self, sample: Sample, phase: Phase, rng: np.random.Generator) -> Sample:
        """By lot: the sample unasked, or asked what nothing in it answers, or as it is."""
        lot = rng.random()
        if lot < phase.unasked:
            return replace(sample, queries=(), answers=())
        if lot < phase.unasked + phase.unanswered and self._tutor is not None:
            return replace(sample, queries=(Query(self._tutor.unanswered(sample.video, rng)),), answers=())
        return sample

    def _layout(self, sample: Sample, times: NDArray[np.float64], rng: np.random.Generator) -> Layout:
        seen = self._with_query(crop(sample, float(times[0]), float(times[-1])), rng)
        return lay_out(
            seen,
            [float(t - times[0]) for t in times],
            self._tokenizer,
            self._frame_tokens,
            keep_replies=bool(rng.random() < self._mixture.keep_replies),
            rng=rng,
            asides=self._asides(sample.video, times, rng),
            window=self._mixture.window,
        )

    def _asides(self, video: str, times: NDArray[np.float64], rng: np.random.Generator) -> list[tuple[int, str, str]]:
        if self._tutor is None:
            return []
        looks = max(1, len(times) // self._mixture.frames_per_look)
        frames = rng.choice(len(times), size=looks, replace=False)
        questions = self._mixture.look_questions
        return [
            (int(k), questions[int(rng.integers(len(questions)))], self._tutor.view(video, float(times[k])))
            for k in frames
        ]

    def _with_query(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.queries or sample.kind != "captioning":
            return sample
        instructions = self._mixture.instructions
        return replace(sample, queries=(Query(instructions[int(rng.integers(len(instructions)))]),))
