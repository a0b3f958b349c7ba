"""Has a task's videos watched, here by one engine or at a server; knows neither what is looked for nor how it is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmduet.cli._loading import load
from mmduet.cli._task_options import Asked
from mmduet.cli._timeline import busy
from mmduet.cli._watching import film_strip
from mmduet.errors import MmduetError, VideoError
from mmduet.events import Frame, Output
from mmduet.tasks.base import Own, Setting, Task, Watched, watch

if TYPE_CHECKING:
    from mmduet.viz.run_plot import FilmStrip

Report = Callable[[int, int], None]  # done, of so many


@dataclass
class Viewing:
    """One video, how it is watched, and what came of it: what was ``watched``, and the ``error`` that ended it early."""

    video: Path
    task: Task[Any]
    asked: Asked
    stop: threading.Event
    model: str = ""
    setting: Setting = field(init=False)
    duration: float | None = None  # as its file says
    strip: FilmStrip | None = None
    watched: Watched | None = None
    error: MmduetError | None = None

    def prepare(self, model: str, own: Own) -> Setting:
        """Note which model watches, and settle how."""
        setting = self.task.setting(own)
        fps = setting.fps if self.asked.fps is None else self.asked.fps
        self.model, self.setting = model, replace(setting, fps=fps, speak=setting.speak.revised(self.asked.speak, None))
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

    def heard(self, outputs: Iterable[Output], error: MmduetError | None = None) -> None:
        """Take what was said while it was watched, and what ended that early."""
        self.error = self.error or error
        if error is None:
            self.watched = Watched.of(outputs, self.duration)

    def _read(self) -> Iterator[Frame]:
        from mmduet.video import VideoFile, open_frames
        from mmduet.video.sampling import cap

        with VideoFile(self.video) as file:
            self.duration = file.info.duration
        setting = self.setting
        most = cap(setting.profile, self.duration, setting.fps, setting.max_frames)
        self.strip = film_strip(self.asked.plot)
        for frame in open_frames(self.video, setting.fps, setting.profile, most):
            if self.stop.is_set():
                return
            if self.strip is not None:
                self.strip.add(frame)
            yield frame


def viewings(asked: Asked, task: Task[Any]) -> Iterator[Viewing]:
    """Every video in the order in which it was given, each when it and all before it are over."""
    stop = threading.Event()
    wanted = [Viewing(video, task, asked, stop) for video in asked.videos]
    label = asked.videos[0].name if len(wanted) == 1 else f"{len(wanted)} videos"
    reports: list[Report] = []  # the one in use; what is found is shown while nobody says that one is waiting

    def tell(done: int, total: int) -> None:
        reports[-1](done, total)

    found = (watch_here if asked.server is None else watch_remotely)(asked, wanted, tell)
    try:
        while True:
            with busy(f"watching {label}", asked.quiet) as report:
                reports[:] = [report]
                viewing = next(found, None)
            if viewing is None:
                return
            yield viewing
    finally:
        stop.set()


def watch_here(asked: Asked, wanted: list[Viewing], report: Report) -> Iterator[Viewing]:
    """By a model that is loaded here, many at a time through one engine."""
    from mmduet.engine import Engine, Job, own, task_options
    from mmduet.pipelines.local import play_in_order

    model, untold = asked.model or "nano", lambda done, total: None
    loaded = load(model, asked.adapter, asked.allow_pickle, asked.dtype, asked.quantized, untold)
    engine, best = Engine(loaded), loaded.config.recommended
    settings = [viewing.prepare(loaded.config.name, own(best)) for viewing in wanted]
    jobs = [
        Job(viewing, task_options(best, setting), setting.queries, viewing.frames)
        for viewing, setting in zip(wanted, settings, strict=True)
    ]
    for done, played in enumerate(play_in_order(engine, jobs, asked.at_once), 1):
        viewing = played.job.name
        viewing.heard(played.outputs, played.error)
        report(done, len(wanted))
        yield viewing


def watch_remotely(asked: Asked, wanted: list[Viewing], report: Report) -> Iterator[Viewing]:
    """By a server, in a session each."""
    pool = ThreadPoolExecutor(min(asked.at_once, len(wanted)), "mmduet-viewing")
    try:
        for done, viewing in enumerate(pool.map(watch_one_remotely, wanted), 1):
            report(done, len(wanted))
            yield viewing
    finally:
        for viewing in wanted:
            viewing.stop.set()  # or an interrupt would wait for the videos under way
        pool.shutdown(cancel_futures=True)


def watch_one_remotely(viewing: Viewing) -> Viewing:
    """Send a video and hear what is said of it."""
    from mmduet.client import RemoteStream
    from mmduet.client.tasks import adopt, own

    asked = viewing.asked
    try:
        with RemoteStream(asked.server or "", key=asked.key, encoding=asked.encoding, patient=True) as stream:
            setting = viewing.prepare(stream.session.model, own(stream.session))
            adopt(stream, setting)
            outputs = list(watch(stream, viewing.frames(), setting.queries))
        viewing.heard(outputs)
    except MmduetError as error:
        viewing.heard((), error)
    return viewing
