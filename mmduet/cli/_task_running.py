"""Has a task's videos watched, here by one engine or at a server; knows neither what is looked for nor how it is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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

Report = Callable[[int, int], None]  # done, total


@dataclass
class VideoRun:
    """One video, how it is watched, and what came of it: what was ``watched``, and the ``error`` that ended it early."""

    video: Path
    task: Task[Any]
    options: TaskOptions
    stop: threading.Event
    model: str = ""
    setting: RunConfig = field(init=False)
    duration: float | None = None  # as its file says
    strip: FilmStrip | None = None
    result: StreamResult | None = None
    error: MmduetError | None = None

    def prepare(self, model: str, own: ModelDefaults) -> RunConfig:
        """Note which model watches, and settle how."""
        setting = self.task.run_config(own)
        fps = setting.fps if self.options.fps is None else self.options.fps
        self.model, self.setting = (
            model,
            replace(setting, fps=fps, speak=setting.speak.with_overrides(self.options.speak, None)),
        )
        return self.setting

    def frames(self) -> Iterator[Frame]:
        """The video's frames, until they end or nobody wants them; thumbnails are kept for what is to be drawn.

        Where one cannot be had, the ``error`` is kept: what came before is still watched.
        """
        shown = False
        try:
            for frame in self._read():
                shown = True
                yield frame
        except VideoError as error:
            if not shown:
                raise
            self.error, self.duration = error, None

    def finish(self, outputs: Iterable[Output], error: MmduetError | None = None) -> None:
        """Take what was said while it was watched, and what ended that early."""
        self.error = self.error or error
        if error is None:
            self.result = StreamResult.from_outputs(outputs, self.duration)

    def _read(self) -> Iterator[Frame]:
        from mmduet.video import VideoFile, open_frames
        from mmduet.video.sampling import frame_limit

        with VideoFile(self.video) as file:
            self.duration = file.info.duration
        setting = self.setting
        most = frame_limit(setting.profile, self.duration, setting.fps, setting.max_frames)
        self.strip = FilmStrip() if self.options.plot is not None else None
        for frame in open_frames(self.video, setting.fps, setting.profile, most):
            if self.stop.is_set():
                return
            if self.strip is not None:
                self.strip.add(frame)
            yield frame


def run_task_videos(asked: TaskOptions, task: Task[Any]) -> Iterator[VideoRun]:
    """Every video in the order in which it was given, each when it and all before it are over."""
    stop = threading.Event()
    wanted = [VideoRun(video, task, asked, stop) for video in asked.videos]
    label = asked.videos[0].name if len(wanted) == 1 else f"{len(wanted)} videos"
    reports: list[Report] = []  # the one in use; what is found is shown while nobody says that one is waiting

    def tell(done: int, total: int) -> None:
        reports[-1](done, total)

    found = (run_locally if asked.server is None else run_remotely)(asked, wanted, tell)
    try:
        while True:
            with spinner(f"watching {label}", asked.quiet) as report:
                reports[:] = [report]
                viewing = next(found, None)
            if viewing is None:
                return
            yield viewing
    finally:
        stop.set()


def run_locally(asked: TaskOptions, wanted: list[VideoRun], report: Report) -> Iterator[VideoRun]:
    """By a model that is loaded here, many at a time through one engine."""
    from mmduet.engine import Engine, model_defaults, task_options
    from mmduet.pipelines.jobs import VideoJob
    from mmduet.pipelines.local import run_videos

    model, untold = asked.model or "nano", lambda done, total: None
    loaded = load(model, asked.adapter, asked.allow_pickle, asked.dtype, asked.quantized, untold)
    engine, best = Engine(loaded), loaded.config.recommended
    settings = [viewing.prepare(loaded.config.name, model_defaults(best)) for viewing in wanted]
    jobs = [
        VideoJob(viewing, task_options(best, setting), setting.queries, viewing.frames)
        for viewing, setting in zip(wanted, settings, strict=True)
    ]
    for done, result in enumerate(run_videos(engine, jobs, asked.at_once, in_order=True), 1):
        viewing = result.video
        viewing.finish(result.events, result.error)
        report(done, len(wanted))
        yield viewing


def run_remotely(asked: TaskOptions, wanted: list[VideoRun], report: Report) -> Iterator[VideoRun]:
    """By a server, in a session each."""
    pool = ThreadPoolExecutor(min(asked.at_once, len(wanted)), "mmduet-viewing")
    try:
        for done, viewing in enumerate(pool.map(run_one_remotely, wanted), 1):
            report(done, len(wanted))
            yield viewing
    finally:
        for viewing in wanted:
            viewing.stop.set()  # or an interrupt would wait for the videos under way
        pool.shutdown(cancel_futures=True)


def run_one_remotely(viewing: VideoRun) -> VideoRun:
    """Send a video and hear what is said of it."""
    from mmduet.client import RemoteStream
    from mmduet.client.tasks import configure, model_defaults

    asked = viewing.options
    try:
        with RemoteStream(asked.server or "", key=asked.key, encoding=asked.encoding, block_when_behind=True) as stream:
            setting = viewing.prepare(stream.session.model, model_defaults(stream.session))
            configure(stream, setting)
            outputs = list(run_stream(stream, viewing.frames(), setting.queries))
        viewing.finish(outputs)
    except MmduetError as error:
        viewing.finish((), error)
    return viewing
