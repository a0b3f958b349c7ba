"""A thread that owns the engine. Other threads submit requests to it.

``EngineThread`` executes requests between steps and passes every output to the listener of its session. ``Stream`` is a session
with blocking calls: ``push`` blocks while too many frames are unscored. Outputs are queued without a bound, because there are
only as many as the pushed frames produce; a reader that does not read delays no other session.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar

from mmduet.engine.batching_wait import BatchingWait
from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.engine.step_recovery import StepFault
from mmduet.errors import EngineError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Scores, SessionFailed, StreamEnded
from mmduet.options import SessionOptions, SpeakOptions

T = TypeVar("T")


@dataclass(frozen=True)
class StepStats:
    """One step of the engine.

    Attributes:
        seconds: Its duration.
        sessions: Number of sessions that took part.
        frames: Number of frames that were scored.
        faults: Errors after which it was repeated in parts.
    """

    seconds: float
    sessions: int
    frames: int
    faults: tuple[StepFault, ...] = ()


Listener = Callable[[Output | None], None]
"""Called by the engine's thread with each output of a session. None: no more follow. It must not block or raise."""


class EngineThread:
    """Runs an engine in a thread until the ``with`` block ends."""

    def __init__(
        self,
        engine: Engine,
        on_step: Callable[[StepStats], None] = lambda step: None,
        wait: BatchingWait | None = None,
    ) -> None:
        """``on_step`` is called by the thread after each step in which a session took part.

        With ``wait``, steps may begin a moment later so that more sessions take part.
        """
        self.engine, self._on_step, self._wait = engine, on_step, wait
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[int, Listener] = {}
        self._failure: BaseException | None = None
        self._stopped = False
        self._stopping = threading.Lock()  # no request may be queued after the pending ones were rejected
        self._thread = threading.Thread(target=self._run, name="mmduet-engine", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop after the current step. Sessions that are still open get no more outputs."""
        self._requests.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether requests are still executed."""
        return self._thread.is_alive() and not self._stopped

    def submit(self, request: Callable[[Engine], T]) -> Future[T]:
        """Execute ``request`` between two steps. The future gets its result or exception.

        If the engine has failed, the exception is ``EngineError``; if it was stopped, ``SessionClosedError``.
        """
        future: Future[T] = Future()

        def execute() -> None:
            if self._stopped:
                future.set_exception(self._stopped_error())
            elif future.set_running_or_notify_cancel():
                _resolve(future, request, self.engine)

        with self._stopping:
            if not self._stopped:
                self._requests.put(execute)
                return future
        execute()
        return future

    def listen(
        self, options: SessionOptions | None, listener: Listener, take_token: Callable[[], bool] = lambda: True
    ) -> Callable[[Engine], Session]:
        """Return a request that opens a session whose outputs are passed to ``listener``.

        ``take_token`` is called by the engine's thread for every token of a reply, which ends before it if the result is False.
        """

        def request(engine: Engine) -> Session:
            session = engine.open(options)
            session.take_token = take_token
            self._listeners[session.id] = listener
            return session

        return request

    def close_session(self, session: Session) -> Callable[[Engine], None]:
        """Return a request that closes a session. Its listener is not called any more."""

        def request(engine: Engine) -> None:
            engine.close(session)
            self._listeners.pop(session.id, None)

        return request

    def open(self, options: SessionOptions | None = None, max_frames: int = 32) -> Stream:
        """Open a session. ``push`` blocks while ``max_frames`` of its frames are not scored yet."""
        return Stream(self, options, max_frames)

    def raise_failure(self) -> None:
        """Raise ``EngineError`` if the engine has failed."""
        if self._failure is not None:
            raise self._stopped_error() from self._failure

    def _stopped_error(self) -> EngineError:
        if self._failure is not None:
            return EngineError(f"the engine has failed: {self._failure}; restart it")
        return SessionClosedError("the engine has been stopped and accepts no more requests; start another one")

    def _run(self) -> None:
        try:
            while self._serve_requests() and self._collect_more():
                for session, output in self._step():
                    self._listeners[session.id](output)
                    if isinstance(output, StreamEnded | SessionFailed):
                        del self._listeners[session.id]
        except BaseException as error:  # noqa: BLE001 - reported to everyone who waits for the thread
            self._failure = error
        finally:
            self._reject_pending()

    def _step(self) -> list[tuple[Session, Output]]:
        began = perf_counter()
        events = self.engine.step()
        if self.engine.last_batch_size:
            frames = sum(isinstance(output, Scores) for _, output in events)
            seconds, faults = perf_counter() - began, tuple(self.engine.last_faults)
            self._on_step(StepStats(seconds, self.engine.last_batch_size, frames, faults))
            if self._wait is not None:
                self._wait.on_step(seconds, frames, perf_counter())
        return events

    def _serve_requests(self) -> bool:
        """Execute the queued requests; wait for one only if no session has work. Return False if the thread must stop."""
        wait = not self.engine.busy
        while True:
            try:
                request = self._requests.get(block=wait)
            except queue.Empty:
                return True
            if request is None:
                return False
            request()
            wait = False

    def _collect_more(self) -> bool:
        """Execute requests during the wait before a step. Return False if the thread must stop."""
        seconds, target = (
            (0.0, 0) if self._wait is None else self._wait.plan(self.engine.ready_count, self.engine.session_count)
        )
        end = perf_counter() + seconds
        while target and self.engine.ready_count < target and (left := end - perf_counter()) > 0:
            try:
                request = self._requests.get(timeout=left)
            except queue.Empty:
                break
            if request is None:
                return False
            request()
        return True

    def _reject_pending(self) -> None:
        with self._stopping:
            self._stopped = True
        while not self._requests.empty():
            if (request := self._requests.get()) is not None:
                request()
        for listener in self._listeners.values():
            listener(None)


def _resolve(future: Future[T], request: Callable[[Engine], T], engine: Engine) -> None:
    try:
        future.set_result(request(engine))
    except BaseException as error:  # noqa: BLE001 - raised again by the future
        future.set_exception(error)


class Stream:
    """A session with blocking calls, for use from another thread. ``EngineThread.open`` creates it."""

    def __init__(self, thread: EngineThread, options: SessionOptions | None, max_frames: int) -> None:
        self._thread = thread
        self._free_frames = threading.Semaphore(max_frames)
        self._outputs: queue.SimpleQueue[Output | None] = queue.SimpleQueue()
        self._session = thread.submit(thread.listen(options, self._deliver)).result()

    def push(self, item: Frame | Query | Context) -> None:
        """Put an item on the timeline; block while too many frames are unscored. Raise ``SessionClosedError`` after the end."""
        if not isinstance(item, Frame):
            return self._thread.submit(lambda engine: engine.push(self._session, item)).result()
        frame = self._thread.engine.prepare(item)
        while not self._free_frames.acquire(timeout=0.2):
            self._check_open()
        self._check_open()
        self._thread.submit(lambda engine: engine.push(self._session, frame))
        return None

    def _check_open(self) -> None:
        if not self._thread.alive:
            self._thread.submit(lambda engine: None).result()  # raises the error
        self._session.check_open()

    def end(self) -> None:
        """End the stream: no more frames follow."""
        self._thread.submit(lambda engine: engine.end(self._session)).result()

    def speak_now(self) -> None:
        """Reply after the latest frame, regardless of the policy."""
        self._thread.submit(lambda engine: engine.speak_now(self._session)).result()

    def update_speak(self, speak: SpeakOptions) -> None:
        """Use other speak options from the next frame on. Raise ``SessionClosedError`` after the end."""
        self._thread.submit(lambda engine: engine.update_policy(self._session, speak)).result()

    def cancel(self) -> None:
        """Stop the reply that is being decoded."""
        self._thread.submit(lambda engine: engine.cancel(self._session)).result()

    def close(self) -> None:
        """Close the session immediately. ``outputs`` stops."""
        if self._thread.alive:
            self._thread.submit(self._thread.close_session(self._session)).result()
        self._outputs.put(None)

    def outputs(self) -> Iterator[Output]:
        """Yield the outputs of the session until it ends. Raise ``EngineError`` if the engine fails."""
        while True:
            output = self._outputs.get()
            if output is None:
                return self._thread.raise_failure()
            yield output
            if isinstance(output, StreamEnded | SessionFailed):
                return None

    def _deliver(self, output: Output | None) -> None:
        if isinstance(output, Scores):
            self._free_frames.release()
        self._outputs.put(output)
