"""Run a task over the videos of a command, with one engine of this process or at a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmduet.cli._display import spinner
from mmduet.cli._loading import load
from mmduet.cli._task_options import TaskOptions
from mmduet.errors import MmduetError, VideoError
from mmduet.events import Frame, Output
from mmduet.tasks.base import ModelDefaults, RunConfig, StreamResult, Task
from mmduet.tasks.streaming import run_stream
from mmduet.viz.film_strip import FilmStrip

ProgressCallback = Callable[[int, int], None]  # number of finished videos, number of all videos


@dataclass
class VideoRun:
    """One video of a command: how it is run, its ``result``, and the ``error`` that ended it early."""

    video: Path
    task: Task[Any]
    options: TaskOptions
    stop: threading.Event
    model: str = ""
    config: RunConfig = field(init=False)
    duration: float | None = None  # seconds, from the container
    strip: FilmStrip | None = None
    result: StreamResult | None = None
    error: MmduetError | None = None

    def configure(self, model: str, defaults: ModelDefaults) -> RunConfig:
        """Set the model's name and return the run's configuration, with the command's options applied."""
        self.model = model
        self.config = self.task.run_config(defaults).with_overrides(self.options.fps, self.options.speak)
        return self.config

    def frames(self) -> Iterator[Frame]:
        """Yield the video's frames until they end or the command stops; keep thumbnails if a plot is drawn.

        An error after the first frame is stored in ``error``, so that the frames before it are still processed.
        """
        has_frames = False
        try:
            for frame in self._read():
                has_frames = True
                yield frame
        except VideoError as error:
            if not has_frames:
                raise
            self.error, self.duration = error, None

    def finish(self, outputs: Iterable[Output], error: MmduetError | None = None) -> None:
        """Store the session's outputs, or the error that ended the session."""
        self.error = self.error or error
        if error is None:
            self.result = StreamResult.from_outputs(outputs, self.duration)

    def _read(self) -> Iterator[Frame]:
        from mmduet.video import VideoFile, open_frames
        from mmduet.video.sampling import frame_limit

        with VideoFile(self.video) as file:
            self.duration = file.info.duration
        config = self.config
        max_frames = frame_limit(config.profile, self.duration, config.fps, config.max_frames)
        self.strip = FilmStrip() if self.options.plot is not None else None
        for frame in open_frames(self.video, config.fps, config.profile, max_frames):
            if self.stop.is_set():
                return
            if self.strip is not None:
                self.strip.add(frame)
            yield frame


def run_task_videos(options: TaskOptions, task: Task[Any]) -> Iterator[VideoRun]:
    """Run the task over all videos; yield each in the given order when it and all before it have finished."""
    stop = threading.Event()
    runs = [VideoRun(video, task, options, stop) for video in options.videos]
    label = options.videos[0].name if len(runs) == 1 else f"{len(runs)} videos"
    spinners: list[ProgressCallback] = []  # the one on screen: results are printed while no spinner turns

    def on_progress(done: int, total: int) -> None:
        spinners[-1](done, total)

    finished = (run_locally if options.server is None else run_remotely)(options, runs, on_progress)
    try:
        while True:
            with spinner(f"processing {label}", options.quiet) as show_progress:
                spinners[:] = [show_progress]
                run = next(finished, None)
            if run is None:
                return
            yield run
    finally:
        stop.set()


def run_locally(options: TaskOptions, runs: list[VideoRun], on_progress: ProgressCallback) -> Iterator[VideoRun]:
    """Load the model in this process and run the videos through one engine."""
    from mmduet.engine import Engine, model_defaults, task_options
    from mmduet.pipelines.jobs import VideoJob
    from mmduet.pipelines.local import run_videos

    def ignore_progress(done: int, total: int) -> None:
        """Loading is shown by the spinner alone."""

    model = options.model or "nano"
    loaded = load(model, options.adapter, options.allow_pickle, options.dtype, options.quantized, ignore_progress)
    engine, recommended = Engine(loaded), loaded.config.recommended
    configs = [run.configure(loaded.config.name, model_defaults(recommended)) for run in runs]
    jobs = [
        VideoJob(run, task_options(recommended, config), config.queries, run.frames)
        for run, config in zip(runs, configs, strict=True)
    ]
    for done, result in enumerate(run_videos(engine, jobs, options.at_once, in_order=True), 1):
        run = result.video
        run.finish(result.events, result.error)
        on_progress(done, len(runs))
        yield run


def run_remotely(options: TaskOptions, runs: list[VideoRun], on_progress: ProgressCallback) -> Iterator[VideoRun]:
    """Run every video in a session of its own at the server, a bounded number at a time."""
    pool = ThreadPoolExecutor(min(options.at_once, len(runs)), "mmduet-video")
    try:
        for done, run in enumerate(pool.map(run_one_remotely, runs), 1):
            on_progress(done, len(runs))
            yield run
    finally:
        for run in runs:
            run.stop.set()  # otherwise an interrupt would wait for the videos that are being sent
        pool.shutdown(cancel_futures=True)


def run_one_remotely(run: VideoRun) -> VideoRun:
    """Send one video to the server and store its outputs, or the error that ended the session."""
    from mmduet.client import RemoteStream
    from mmduet.client.tasks import configure, model_defaults

    options = run.options
    url = options.server or ""
    try:
        with RemoteStream(url, key=options.key, encoding=options.encoding, block_when_behind=True) as stream:
            config = run.configure(stream.session.model, model_defaults(stream.session))
            configure(stream, config)
            outputs = list(run_stream(stream, run.frames(), config.queries))
        run.finish(outputs)
    except MmduetError as error:
        run.finish((), error)
    return run
