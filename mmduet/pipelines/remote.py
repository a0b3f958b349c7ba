"""Run many videos at a server, each in a session of its own, a bounded number at a time."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmduet.client import RemoteStream
from mmduet.client.connection_status import ConnectionCallback
from mmduet.client.images import Encoding
from mmduet.client.tasks import configure, model_defaults
from mmduet.errors import CapacityError, MmduetError, SessionClosedError
from mmduet.events import Output
from mmduet.pipelines.daemon import start_daemon
from mmduet.pipelines.jobs import R, VideoResult
from mmduet.pipelines.ordering import Finished
from mmduet.pipelines.task_run import TaskRun
from mmduet.tasks.streaming import run_stream

RELEASE_SECONDS = 5.0
"""Time in which a server has closed the session of a video that has finished, and accepts another one in its place."""
RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class ServerAddress:
    """Where the server is, the key that it may require, and the encoding of the frames that are sent to it."""

    url: str
    key: str | None = None
    encoding: Encoding = "jpeg"


def run_tasks(
    server: ServerAddress, runs: Sequence[TaskRun[R]], max_concurrent: int, stop: threading.Event
) -> Finished[VideoResult[Path, R]]:
    """Run every video and yield its index and result when it finishes; failures are errors of the results.

    A video for which the server has no capacity waits until another one of this call has finished, and from then on no more
    videos run at the same time than the server accepted. Closing the iterator sets
    ``stop`` and closes the open streams. It waits neither for unfinished videos nor for the server.
    """
    pending, running = deque(runs), dict[Future[VideoResult[Path, R]], TaskRun[R]]()
    shared = set[
        Future[VideoResult[Path, R]]
    ]()  # those that had another one beside them, which may have taken the place
    streams, limit = _OpenStreams(server, stop), max_concurrent
    place_is_free_at = 0.0  # when the server has certainly closed the session of the last video, on the monotonic clock

    def close() -> None:
        streams.close()
        wait(running)

    atexit.register(close)  # a script may end while its results are open
    try:
        while pending or running:
            while pending and len(running) < limit:
                run = pending.popleft()
                running[start_daemon(partial(_run_task, streams, run), "mmduet-video")] = run
                is_alone = len(running) == 1 and time.monotonic() > place_is_free_at
                shared |= set() if is_alone else running.keys()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: running[future].index):
                run, result = running.pop(future), future.result()
                if future in shared and _was_rejected(result):
                    pending.appendleft(run)
                    limit = max(len(running), 1)
                    stop.wait(0.0 if running else RETRY_SECONDS)
                else:
                    if not _was_rejected(result):
                        place_is_free_at = time.monotonic() + RELEASE_SECONDS
                    yield run.index, result
    finally:
        atexit.unregister(close)
        close()


def _was_rejected(result: VideoResult[Path, R]) -> bool:
    """Return whether the server had no capacity for the video, before anything was sent."""
    return isinstance(result.error, CapacityError) and result.config is None


class _OpenStreams:
    """The streams of the running videos, which the thread that reads the results can close."""

    def __init__(self, server: ServerAddress, stop: threading.Event) -> None:
        self._server, self._stop = server, stop
        self._streams: set[RemoteStream] = set()
        self._lock = threading.Lock()

    @contextmanager
    def open(self, on_connection_change: ConnectionCallback) -> Iterator[RemoteStream]:
        """Provide a new stream. Raises ``SessionClosedError`` once ``close`` has been called."""
        server = self._server
        stream = RemoteStream(
            server.url,
            key=server.key,
            encoding=server.encoding,
            block_when_behind=True,
            on_connection_change=on_connection_change,
        )
        with self._lock:
            if self._stop.is_set():
                raise SessionClosedError("the pipeline was closed; call it again")
            self._streams.add(stream)  # before it connects, which a server that does not respond delays
        try:
            with stream:
                yield stream
        finally:
            with self._lock:
                self._streams.discard(stream)

    def close(self) -> None:
        """Set ``stop`` and close all streams, so that no video waits for the server any longer."""
        with self._lock:
            self._stop.set()
            streams = tuple(self._streams)
        wait(
            [start_daemon(stream.close, "mmduet-close") for stream in streams]
        )  # in parallel: a server may not respond


def _run_task(streams: _OpenStreams, run: TaskRun[R]) -> VideoResult[Path, R]:
    """Send one video to the server and return its result."""
    events: list[Output] = []
    try:
        with streams.open(run.on_connection_change) as stream:
            config = run.configure(stream.session.model, model_defaults(stream.session))
            configure(stream, config)
            events.extend(run_stream(stream, run.frames(), config.queries))
    except MmduetError as error:
        return run.result(events, error)
    return run.result(events)
