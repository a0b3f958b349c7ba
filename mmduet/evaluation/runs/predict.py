"""Runs an engine over a test set, many videos at once; what cannot be answered is reported, never left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.prediction_files import Example, Json, prediction
from mmduet.engine import Engine
from mmduet.errors import MmduetError
from mmduet.events import Frame
from mmduet.options import SessionOptions
from mmduet.pipelines.local import AT_ONCE, Job, Played, play
from mmduet.tasks.base import Watched
from mmduet.video import VideoFile, open_frames
from mmduet.video.sampling import cap

PAPER_DECIMALS = 3


@dataclass(frozen=True)
class Viewing:
    """How the videos are watched. ``fps`` None: every frame; ``max_frames`` None: to the end."""

    videos: Path
    fps: float | None
    max_frames: int | None
    options: SessionOptions


@dataclass(frozen=True)
class Failure:
    """A question that could not be answered, and why."""

    question_id: str | int
    error: MmduetError


def predictions(
    engine: Engine, examples: Sequence[Example], viewing: Viewing, most: int = AT_ONCE
) -> Iterator[Json | Failure]:
    """A prediction or a failure for every example, each as soon as it is there; ``most`` of them are watched at once."""
    jobs = (_job(_Question(example, viewing)) for example in examples)
    yield from map(_result, play(engine, jobs, most))


@dataclass
class _Question:
    """An example; ``duration`` is what its file says of itself, once it was opened."""

    example: Example
    viewing: Viewing
    duration: float | None = None

    def frames(self) -> Iterator[Frame]:
        path, viewing = self.viewing.videos / self.example.video, self.viewing
        with VideoFile(path) as file:
            self.duration = file.info.duration
        profile = viewing.options.profile
        return open_frames(path, viewing.fps, profile, cap(profile, self.duration, viewing.fps, viewing.max_frames))


def _job(question: _Question) -> Job[_Question]:
    options, queries = question.viewing.options, question.example.queries
    return Job(question, options if queries else options.never_asked(), queries, question.frames)


def _result(played: Played[_Question]) -> Json | Failure:
    question = played.job.name
    if played.error is not None:
        return Failure(question.example.question_id, played.error)
    watched = Watched.of(played.outputs)
    decimals = PAPER_DECIMALS if question.viewing.options.profile == "paper" else None
    return prediction(question.example, question.duration, watched.scores, watched.replies, decimals)
