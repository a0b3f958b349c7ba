"""Run many videos at a server, each in a session of its own, a bounded number at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmduet.client import RemoteStream
from mmduet.client.tasks import configure, model_defaults
from mmduet.errors import MmduetError
from mmduet.pipelines.jobs import R, VideoResult
from mmduet.pipelines.ordering import Finished
from mmduet.pipelines.task_run import TaskRun
from mmduet.tasks.streaming import run_stream


@dataclass(frozen=True)
class ServerAddress:
    """Where the server is, the key that it may require, and the encoding of the frames that are sent to it."""

    url: str
    key: str | None = None
    encoding: Literal["jpeg", "png", "raw"] = "jpeg"


def run_tasks(
    server: ServerAddress, runs: Sequence[TaskRun[R]], max_concurrent: int, stop: threading.Event
) -> Finished[VideoResult[Path, R]]:
    """Run every video and yield its index and result when it finishes; failures are errors of the results.

    Closing the iterator sets ``stop``, so that it waits neither for the videos that are being sent nor starts others.
    """
    pending, running = iter(runs), dict[Future[VideoResult[Path, R]], int]()
    with ThreadPoolExecutor(max_concurrent, "mmduet-video") as pool:
        try:
            while True:
                while len(running) < max_concurrent and (run := next(pending, None)) is not None:
                    running[pool.submit(_run_task, server, run)] = run.index
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: running[future]):
                    yield running.pop(future), future.result()
        finally:
            stop.set()


def _run_task(server: ServerAddress, run: TaskRun[R]) -> VideoResult[Path, R]:
    """Send one video to the server and return its result."""
    try:
        with RemoteStream(server.url, key=server.key, encoding=server.encoding, block_when_behind=True) as stream:
            config = run.configure(stream.session.model, model_defaults(stream.session))
            configure(stream, config)
            events = list(run_stream(stream, run.frames(), config.queries))
        return run.result(events)
    except MmduetError as error:
        return run.result((), error)
