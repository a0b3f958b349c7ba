"""Run many videos through one engine of this process, a bounded number at a time, stepped together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic

from mmduet.engine.defaults import model_defaults, task_options
from mmduet.engine.engine import Engine
from mmduet.engine.session import PreparedFrame
from mmduet.errors import MmduetError
from mmduet.events import Frame, Output, SessionFailed
from mmduet.pipelines.jobs import DEFAULT_MAX_CONCURRENT, R, V, VideoJob, VideoResult, check_max_concurrent
from mmduet.pipelines.ordering import Finished, drop_index, sort_by_index
from mmduet.pipelines.task_run import TaskRun


def run_videos(
    engine: Engine,
    jobs: Iterable[VideoJob[V]],
    max_concurrent: int = DEFAULT_MAX_CONCURRENT,
    *,
    in_order: bool = False,
) -> Generator[VideoResult[V, Any], None, None]:
    """Run every job once and yield its result when it finishes, or in the order of the jobs if ``in_order``.

    At most ``max_concurrent`` sessions are open, and ``jobs`` is read no further ahead than that. Every open session has a
    frame or a token to process in every step, so the composition of the batches does not depend on how fast files are
    read: the same jobs give the same outputs, to the last bit. Another ``max_concurrent`` changes scores by rounding only.

    A job that raises ``MmduetError`` (in its frames, its turns or its session) ends alone, with that error in its result. Any
    other exception ends all jobs. Nothing else may use the engine meanwhile. Closing the iterator closes all sessions.

    Raises:
        OptionError: ``max_concurrent`` is less than 1.
    """
    finished = _run(engine, jobs, check_max_concurrent(max_concurrent))
    return sort_by_index(finished) if in_order else drop_index(finished)


def run_tasks(
    engine: Engine, runs: Sequence[TaskRun[R]], max_concurrent: int, stop: threading.Event
) -> Finished[VideoResult[Path, R]]:
    """Run every video for its task and yield its index and result when it finishes; failures are errors of the results.

    Closing the iterator sets ``stop``, so that no file is read any further.
    """
    recommended, name = engine.model.config.recommended, engine.model.config.name
    defaults = model_defaults(recommended)

    jobs: list[VideoJob[TaskRun[R]]] = []
    for run in runs:
        try:
            config = run.configure(name, defaults, engine.model.config.vision.image_size)
        except MmduetError as error:
            yield run.index, run.result((), error)
        else:
            jobs.append(VideoJob(run, task_options(recommended, config), config.queries, run.frames))
    with contextlib.closing(_run(engine, jobs, max_concurrent)) as finished:
        try:
            for _, result in finished:
                yield result.video.index, result.video.result(result.events, result.error)
        finally:
            stop.set()


def _run(engine: Engine, jobs: Iterable[VideoJob[V]], max_concurrent: int) -> Finished[VideoResult[V, Any]]:
    """Yield the index and the result of each job, as they finish."""
    pending, running = iter(enumerate(jobs)), dict[int, _RunningJob[V]]()
    with ThreadPoolExecutor(max_concurrent, "mmduet-source") as pool, contextlib.ExitStack() as stack:
        stack.callback(_close_all, running)
        while True:
            while len(running) < max_concurrent and (entry := next(pending, None)) is not None:
                index, job = entry
                try:
                    started = _RunningJob(engine, index, job, pool)
                except MmduetError as error:
                    yield index, VideoResult.from_events(job.video, (), error, engine.model.config.name)
                else:
                    running[started.session.id] = started
            if not running:
                return
            for each in running.values():
                each.feed()
            for session, output in engine.step():
                running[session.id].add_output(output)
            for each in [each for each in running.values() if each.session.closed]:
                yield each.index, running.pop(each.session.id).result()


def _close_all(running: dict[int, _RunningJob[V]]) -> None:
    for each in running.values():
        each.close()


class _RunningJob(Generic[V]):
    """One job while its session is open."""

    def __init__(self, engine: Engine, index: int, job: VideoJob[V], pool: ThreadPoolExecutor) -> None:
        self.index, self._job, self._engine, self._pool = index, job, engine, pool
        self.session = engine.open(job.options)
        self._events: list[Output] = []
        self._error: MmduetError | None = None
        self._frames: Iterator[Frame | PreparedFrame] | None = None
        try:
            for turn in job.turns:
                engine.push(self.session, turn)
        except BaseException:
            engine.close(self.session)
            raise
        self._next_frame: Future[PreparedFrame | None] = pool.submit(self._read)

    def feed(self) -> None:
        """Push the next frame if the session has none left; a thread reads the following one meanwhile."""
        if self.session.inbox or self.session.ending:
            return
        try:
            frame = self._next_frame.result()
        except MmduetError as error:
            self._error = error
            self._engine.close(self.session)
            return
        if frame is None:
            self._engine.end(self.session)
        else:
            self._engine.push(self.session, frame)
            self._next_frame = self._pool.submit(self._read)

    def add_output(self, output: Output) -> None:
        """Record one output of the session."""
        self._events.append(output)
        if isinstance(output, SessionFailed):
            self._error = output.as_error()

    def result(self) -> VideoResult[V, Any]:
        """Return the result of the finished job."""
        return VideoResult.from_events(self._job.video, self._events, self._error, self._engine.model.config.name)

    def close(self) -> None:
        """Abandon the job."""
        self._next_frame.cancel()
        self._engine.close(self.session)

    def _read(self) -> PreparedFrame | None:
        """Return the next frame, prepared for the vision tower; None after the last. Runs in the thread pool."""
        if self._frames is None:
            self._frames = iter(self._job.frames())
        frame = next(self._frames, None)
        return self._engine.prepare(frame) if isinstance(frame, Frame) else frame
