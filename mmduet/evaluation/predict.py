"""Runs an engine over a test set, one question at a time; what cannot be answered is reported, never left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmduet.engine import Engine
from mmduet.engine.failure import error_of
from mmduet.engine.session import Session
from mmduet.errors import MmduetError
from mmduet.evaluation.test_sets import Example, Json, prediction
from mmduet.events import QueryRead, Reply, Scores, SessionFailed
from mmduet.options import SessionOptions
from mmduet.video import VideoFile, open_frames
from mmduet.video.sampling import paper_frame_count

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


def predictions(engine: Engine, examples: Sequence[Example], viewing: Viewing) -> Iterator[Json | Failure]:
    """A prediction or a failure for every example, in order."""
    for example in examples:
        try:
            yield predict(engine, example, viewing)
        except MmduetError as error:
            yield Failure(example.question_id, error)


def predict(engine: Engine, example: Example, viewing: Viewing) -> Json:
    """Watch the example's video with its queries. Raises ``MmduetError`` for a video or a session that fails."""
    path = viewing.videos / example.video
    with VideoFile(path) as file:
        duration = file.info.duration
    scores: list[Scores] = []
    replies: list[Reply] = []
    asked: list[float] = []  # times of the queries read so far
    session = engine.open(viewing.options if example.queries else viewing.options.never_asked())
    try:
        for query in example.queries:
            engine.push(session, query)
        for frame in open_frames(path, viewing.fps, viewing.options.profile, _cap(viewing, duration)):
            engine.push(session, frame)
            _listen(engine, session, scores, replies, asked)
        engine.end(session)
        _listen(engine, session, scores, replies, asked)
    finally:
        engine.close(session)
    paper = viewing.options.profile == "paper"
    return prediction(example, duration, scores, replies, PAPER_DECIMALS if paper else None)


def _listen(engine: Engine, session: Session, scores: list[Scores], replies: list[Reply], asked: list[float]) -> None:
    """Let the engine do what there is to do, and keep what it says.

    A reply given at the end to a query that came after the last frame stands at that query's time, not before it.
    """
    for output in engine.run(session):
        if isinstance(output, Scores):
            scores.append(output)
        elif isinstance(output, QueryRead):
            asked.append(output.query.time)
        elif isinstance(output, Reply):
            replies.append(replace(output, time=max(output.time, *asked)) if asked else output)
        elif isinstance(output, SessionFailed):
            raise error_of(output)


def _cap(viewing: Viewing, duration: float | None) -> int | None:
    """The paper's profile takes the frames that the duration promises, and no more."""
    if viewing.options.profile == "fixed" or viewing.fps is None or duration is None:
        return viewing.max_frames
    return max(1, paper_frame_count(duration, viewing.fps, viewing.max_frames))
