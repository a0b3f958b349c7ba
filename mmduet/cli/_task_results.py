"""Call the pipeline of a task command: load the model, show progress, keep thumbnails for plots."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmduet.cli._connection import ConnectionReporter
from mmduet.cli._loading import find, load
from mmduet.cli._task_options import ReplyTaskOptions, TaskOptions
from mmduet.cli._video_progress import VideoProgress
from mmduet.events import Frame
from mmduet.pipelines.jobs import VideoResult
from mmduet.pipelines.pipeline import Pipeline, pipeline
from mmduet.pipelines.task_run import FrameCallback
from mmduet.tasks.base import Task
from mmduet.viz.film_strip import FilmStrip

if TYPE_CHECKING:
    from mmduet.model.source import ModelSource

R = TypeVar("R")


def task_results(options: TaskOptions, task: Task[R]) -> Iterator[tuple[VideoResult[Path, R], FilmStrip | None]]:
    """Run the task over all videos and yield each result in the given order, with its film strip if plots are drawn."""
    source = None if options.server is not None else _find_model(options)
    strips = {} if options.plot is None else {video: FilmStrip() for video in options.videos}
    progress = VideoProgress(options.videos, options.quiet)

    def on_frame(video: Path, frame: Frame) -> None:
        progress.on_frame(video, frame)
        if strips:
            strips[video].add(frame)

    with closing(_run(options, task, source, on_frame)) as results:
        while True:
            with progress.show():
                result = next(results, None)
            if result is None:
                return
            progress.on_result(result.video)
            yield result, strips.get(result.video)


def _run(
    options: TaskOptions, task: Task[R], source: ModelSource | None, on_frame: FrameCallback
) -> Generator[VideoResult[Path, R], None, None]:
    """Yield the results; the model is loaded when the first one is requested, while the bar is shown."""
    reporters = {video: ConnectionReporter(video) for video in options.videos}
    yield from _open_pipeline(options, task, source)(
        options.videos, on_frame=on_frame, on_connection_change=lambda video, status: reporters[video](status)
    )


def _open_pipeline(options: TaskOptions, task: Task[R], source: ModelSource | None) -> Pipeline[R]:
    speak = options.speak if isinstance(options, ReplyTaskOptions) else None
    settings: dict[str, Any] = {"fps": options.fps, "speak": speak, "max_concurrent": options.at_once}
    settings["strict_video"] = options.strict_video
    if source is None:
        return pipeline(task, server=options.server, key=options.key, encoding=options.encoding, **settings)
    streams = min(options.at_once, len(options.videos))
    model = load(source, options, progress=_no_progress, streams=streams)
    return pipeline(task, model, attention=options.attention, kv_dtype=options.kv_dtype, **settings)


def _find_model(options: TaskOptions) -> ModelSource:
    """Return the files of the model; downloads show their own progress, so this comes before the bar."""
    return find(options.model or "nano", options.adapter, options.allow_pickle, options.quiet)


def _no_progress(done: int, total: int) -> None:
    """Loading is shown by the bar of the videos."""
