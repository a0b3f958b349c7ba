"""Predict a test set with an engine, several videos at a time; failed examples are reported as results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmduet.annotations.json_values import Json
from mmduet.annotations.prediction_lines import prediction_line
from mmduet.annotations.test_sets import Example
from mmduet.engine import Engine
from mmduet.errors import MmduetError
from mmduet.events import Frame, SessionWarning
from mmduet.options import SessionOptions
from mmduet.pipelines.jobs import DEFAULT_MAX_CONCURRENT, VideoJob, VideoResult
from mmduet.pipelines.local import run_videos
from mmduet.pipelines.task_run import open_limited
from mmduet.tasks.base import ModelDefaults
from mmduet.tasks.prompts import grounding_query
from mmduet.video.damage import Damage
from mmduet.video.reader import FrameReader

WarningCallback = Callable[[Example, SessionWarning], None]
PAPER_DECIMALS = 3  # of scores in MMDuet's files


@dataclass(frozen=True)
class PredictionConfig:
    """How the videos of a test set are run.

    Attributes:
        videos: The folder of the videos.
        fps: Sampling rate in frames per second (None: every frame).
        max_frames: Maximum number of frames per video (None: all).
        options: Session options.
        strict_video: Whether a damaged video is a failure.
    """

    videos: Path
    fps: float | None
    max_frames: int | None
    options: SessionOptions
    strict_video: bool = False


@dataclass(frozen=True)
class Prediction:
    """The prediction line of an example, and the damage of its video."""

    line: Json
    video: Path
    damage: Damage


@dataclass(frozen=True)
class FailedPrediction:
    """An example that could not be predicted, and the error."""

    question_id: str | int
    error: MmduetError


def with_prompts(examples: Sequence[Example], defaults: ModelDefaults) -> list[Example]:
    """Return the examples with a grounding prompt around each query that only names what to look for.

    ``defaults`` of the model decide on the wording.
    """
    return [_with_prompt(example, defaults) if example.needs_prompt else example for example in examples]


def _with_prompt(example: Example, defaults: ModelDefaults) -> Example:
    queries = (replace(query, text=grounding_query(query.text, defaults)) for query in example.queries)
    return replace(example, queries=tuple(queries))


def predict_examples(
    engine: Engine,
    examples: Sequence[Example],
    config: PredictionConfig,
    max_concurrent: int = DEFAULT_MAX_CONCURRENT,
    on_warning: WarningCallback = lambda example, warning: None,
) -> Iterator[Prediction | FailedPrediction]:
    """Yield a prediction or a failure for every example, in the order in which they finish.

    At most ``max_concurrent`` examples run at a time. ``on_warning`` is called before the line of a doubtful prediction.
    """
    frame_size = engine.model.config.vision.image_size
    jobs = (_job(_ExampleRun(example, config, frame_size)) for example in examples)
    for result in run_videos(engine, jobs, max_concurrent):
        for warning in result.warnings:
            on_warning(result.video.example, warning)
        yield _to_line(result)


@dataclass
class _ExampleRun:
    """An example with its configuration; ``reader`` has its frames once the file has been opened.

    Frames are letterboxed to ``frame_size`` pixels while they are read.
    """

    example: Example
    config: PredictionConfig
    frame_size: int
    reader: FrameReader | None = None

    def open_frames(self) -> Iterator[Frame]:
        """Open the video and return its sampled frames."""
        config = self.config
        path = config.videos / self.example.video
        self.reader = open_limited(
            path,
            config.fps,
            config.options.profile,
            config.max_frames,
            size=self.frame_size,
            strict=config.strict_video,
        )
        return self.reader


def _job(run: _ExampleRun) -> VideoJob[_ExampleRun]:
    options, queries = run.config.options, run.example.queries
    return VideoJob(run, options if queries else options.without_query(), queries, run.open_frames)


def _to_line(result: VideoResult[_ExampleRun, Any]) -> Prediction | FailedPrediction:
    run, stream = result.video, result.stream
    if result.error is not None:
        return FailedPrediction(run.example.question_id, result.error)
    assert stream is not None
    decimals = PAPER_DECIMALS if run.config.options.profile == "paper" else None
    assert run.reader is not None
    duration, damage = run.reader.duration, run.reader.damage
    line = prediction_line(run.example, duration, stream.scores, stream.replies, decimals)
    return Prediction({**line, "damage": damage.to_dict()}, run.config.videos / run.example.video, damage)
