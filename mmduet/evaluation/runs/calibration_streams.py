"""Score the videos of a validation split, for calibration: one stream per query, with the spans in which a reply is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmduet.annotations.scene_files import read_clips
from mmduet.annotations.training_samples import Sample, read_dense_captioning, read_magqa
from mmduet.engine import Engine, recommended_options
from mmduet.errors import OptionError
from mmduet.events import Query
from mmduet.metrics.reply_matching import TOLERANCE_SECONDS
from mmduet.options import SpeakOptions
from mmduet.pipelines.jobs import DEFAULT_MAX_CONCURRENT, VideoJob
from mmduet.pipelines.local import run_videos
from mmduet.progress import ProgressCallback
from mmduet.spans import Span
from mmduet.training.policy_sweep import ScoredStream
from mmduet.training.recipe import Recipe
from mmduet.video import open_frames

QueryKind = Literal["narration", "questions", "all"]
#: Kinds of data sets whose annotations have times of replies.
READERS = {"captioning": read_dense_captioning, "magqa": read_magqa}
TIME_TOLERANCE = 1e-6  # seconds, for rounding in containers


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video, its queries, and the spans in which a reply is due. ``fps`` None is the model's frame rate."""

    path: Path
    queries: tuple[Query, ...]
    due: tuple[Span, ...]
    fps: float | None = None


def scene_videos(split: str | Path, narration_query: str, kind: QueryKind = "narration") -> list[AnnotatedVideo]:
    """Return the videos of a split of scenes with one query each; a reply is due from the end of an event on.

    Raises:
        AnnotationError: ``split`` is not a split of scenes.
    """
    videos = []
    for clip in read_clips(split):
        path = Path(split) / "videos" / clip["video"]
        if kind != "questions":
            queries = (Query(narration_query),) if narration_query else ()
            videos.append(AnnotatedVideo(path, queries, _due_after(clip["events"])))
        if kind != "narration":
            for question in clip["questions"]:
                query = Query(question["question"], question["time"])
                videos.append(AnnotatedVideo(path, (query,), _due_after(question["answers"])))
    return videos


def sample_videos(
    samples: Sequence[Sample], folder: Path, narration_query: str, fps: float | None = None
) -> list[AnnotatedVideo]:
    """Return the videos of captions and questions; other samples have no times at which a reply is due.

    A reply is due at the frames that are positive in training: from the middle of its span to its time, and at least for
    ``TOLERANCE_SECONDS``. ``narration_query`` is the query of samples without one.
    """
    videos = []
    for sample in samples:
        if sample.kind not in ("captioning", "qa"):
            continue
        default = (Query(narration_query),) if narration_query else ()
        middles = [sum(answer.timespan) / 2 for answer in sample.answers]
        due = tuple(
            Span(middle, max(answer.time, middle + TOLERANCE_SECONDS))
            for middle, answer in zip(middles, sample.answers, strict=True)
        )
        videos.append(AnnotatedVideo(folder / sample.video, sample.queries or default, due, fps))
    return videos


def recipe_videos(recipe: Recipe, narration_query: str, kind: QueryKind = "narration") -> list[AnnotatedVideo]:
    """Return the videos of a recipe's validation data that have annotated replies.

    Raises:
        AnnotationError: annotations cannot be read.
        OptionError: the recipe has no validation data.
    """
    if not recipe.validation.data:
        raise OptionError(
            "the recipe has no validation data to calibrate on; set validation.data, or give a split of scenes"
        )
    videos: list[AnnotatedVideo] = []
    for data_set in recipe.validation.data:
        fps = data_set.fps or recipe.sampling.fps
        if data_set.kind == "scenes":
            videos += [replace(video, fps=fps) for video in scene_videos(data_set.videos, narration_query, kind)]
        elif data_set.annotations is not None and (read := READERS.get(data_set.kind)) is not None:
            videos += sample_videos(read(data_set.annotations), data_set.videos, narration_query, fps)
    return videos


def score_videos(
    engine: Engine, videos: Sequence[AnnotatedVideo], progress: ProgressCallback | None = None
) -> list[ScoredStream]:
    """Run the model on every video without replies, and return the scores from the first query on.

    Raises the error of the first video that cannot be read, and ``OptionError`` without any video.
    """
    if not videos:
        raise OptionError("the data have no videos with replies; calibrate on dense captions, questions or scenes")
    streams = []
    results = run_videos(engine, _jobs(engine, videos), DEFAULT_MAX_CONCURRENT, in_order=True)
    for done, (video, result) in enumerate(zip(videos, results, strict=True), start=1):
        result.raise_for_error()
        assert result.stream is not None
        start = min((query.time for query in video.queries), default=0.0)
        scores = tuple(each for each in result.stream.scores if each.time >= start - TIME_TOLERANCE)
        streams.append(ScoredStream(scores, video.due))
        if progress:
            progress(done, len(videos))
    return streams


def _jobs(engine: Engine, videos: Sequence[AnnotatedVideo]) -> Iterator[VideoJob[Path]]:
    config = engine.model.config
    silent = replace(recommended_options(config.recommended), speak=SpeakOptions.parse("never"))
    size = config.vision.image_size
    for video in videos:
        fps = video.fps or config.recommended.fps
        yield VideoJob(
            video.path, silent, video.queries, lambda v=video, f=fps: open_frames(v.path, f, size=size)  # type: ignore[misc]
        )  # fmt: skip


def _due_after(events: Sequence[dict[str, float]]) -> tuple[Span, ...]:
    return tuple(Span(event["end"], event["end"] + TOLERANCE_SECONDS) for event in events)
