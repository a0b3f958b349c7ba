"""One thread owns the engine; everybody else asks it. Knows threads, no model.

``EngineThread`` carries out requests between steps and hands every output to the listener of its session. ``Stream`` is a
session for an owner who works with blocking calls: a source that pushes faster than the engine watches is made to wait; a
reader that does not read holds up nobody, since what a session says is bounded by what was pushed to it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar

from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.errors import EngineError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Scores, SessionFailed, StreamEnded
from mmduet.options import SessionOptions

T = TypeVar("T")
Listener = Callable[[Output | None], None]
"""Called by the engine's thread with each output of a session; None: there will be no more. It must not block or raise."""


class EngineThread:
    """Runs an engine until the ``with`` block ends."""

    def __init__(self, engine: Engine, observe: Callable[[float, int], None] = lambda seconds, sessions: None) -> None:
        """``observe`` is called after each step with its duration in seconds and the number of sessions that took part."""
        self.engine, self._observe = engine, observe
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[int, Listener] = {}
        self._failure: BaseException | None = None
        self._stopped = False
        self._stopping = threading.Lock()  # so that no request comes in after the last has been refused
        self._thread = threading.Thread(target=self._main, name="mmduet-engine", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop after the step in flight; sessions that are still open end there."""
        self._requests.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether requests are still carried out."""
        return self._thread.is_alive() and not self._stopped

    def submit(self, request: Callable[[Engine], T]) -> Future[T]:
        """Have ``request`` carried out between two steps. The future holds what it returned or raised.

        Where the engine has stopped the future holds what stopped it (``EngineError``), or ``SessionClosedError``.
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

    def listen(self, options: SessionOptions | None, listener: Listener) -> Callable[[Engine], Session]:
        """The request that opens a session whose outputs go to ``listener``."""

        def request(engine: Engine) -> Session:
            session = engine.open(options)
            self._listeners[session.id] = listener
            return session

        return request

    def close_session(self, session: Session) -> Callable[[Engine], None]:
        """The request that drops a session; its listener hears no more."""

        def request(engine: Engine) -> None:
            engine.close(session)
            self._listeners.pop(session.id, None)

        return request

    def open(self, options: SessionOptions | None = None, max_frames: int = 32) -> Stream:
        """A new session, of which at most ``max_frames`` frames wait unread."""
        return Stream(self, options, max_frames)

    def raise_failure(self) -> None:
        """Raise ``EngineError`` from what stopped the engine's thread, if something did."""
        if self._failure is not None:
            raise self._stopped_error() from self._failure

    def _stopped_error(self) -> EngineError:
        if self._failure is not None:
            return EngineError(f"the engine stopped: {self._failure}")
        return SessionClosedError("the engine has stopped; nothing more can be asked of it")

    def _main(self) -> None:
        try:
            while self._serve_requests():
                for session, output in self._step():
                    self._listeners[session.id](output)
                    if isinstance(output, StreamEnded | SessionFailed):
                        del self._listeners[session.id]
        except BaseException as error:  # noqa: BLE001 - the thread's edge: reported to everything that waits for it
            self._failure = error
        finally:
            self._reject_pending()

    def _step(self) -> list[tuple[Session, Output]]:
        began = perf_counter()
        events = self.engine.step()
        if self.engine.last_batch_size:
            self._observe(perf_counter() - began, self.engine.last_batch_size)
        return events

    def _serve_requests(self) -> bool:
        """Carry out what was asked, waiting only where there is nothing else to do; False to stop."""
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
    except BaseException as error:  # noqa: BLE001 - raised again where the future is asked
        future.set_exception(error)


class Stream:
    """A session as its owner sees it from another thread; made by ``EngineThread.open``."""

    def __init__(self, thread: EngineThread, options: SessionOptions | None, max_frames: int) -> None:
        self._thread = thread
        self._room = threading.Semaphore(max_frames)
        self._outputs: queue.SimpleQueue[Output | None] = queue.SimpleQueue()
        self._session = thread.submit(thread.listen(options, self._deliver)).result()

    def push(self, item: Frame | Query | Context) -> None:
        """Put something on the timeline; waits while too many frames are unread. Raises ``SessionClosedError`` at the end."""
        if not isinstance(item, Frame):
            return self._thread.submit(lambda engine: engine.push(self._session, item)).result()
        picture = self._thread.engine.prepare(item)
        while not self._room.acquire(timeout=0.2):
            self._check_open()
        self._check_open()
        self._thread.submit(lambda engine: engine.push(self._session, picture))
        return None

    def _check_open(self) -> None:
        if not self._thread.alive:
            self._thread.submit(lambda engine: None).result()  # raises what stopped it
        self._session.check_open()

    def end(self) -> None:
        """No more frames will come."""
        self._thread.submit(lambda engine: engine.end(self._session)).result()

    def speak_now(self) -> None:
        """Reply after the latest frame, whatever the policy says."""
        self._thread.submit(lambda engine: engine.speak_now(self._session)).result()

    def cancel(self) -> None:
        """Stop the reply that is being written."""
        self._thread.submit(lambda engine: engine.cancel(self._session)).result()

    def close(self) -> None:
        """Drop the session at once; ``outputs`` stops."""
        if self._thread.alive:
            self._thread.submit(self._thread.close_session(self._session)).result()
        self._outputs.put(None)

    def outputs(self) -> Iterator[Output]:
        """Everything the session says, as it says it, to its end. Raises what stopped the engine, if something did."""
        while True:
            output = self._outputs.get()
            if output is None:
                return self._thread.raise_failure()
            yield output
            if isinstance(output, StreamEnded | SessionFailed):
                return None

    def _deliver(self, output: Output | None) -> None:
        if isinstance(output, Scores):
            self._room.release()
        self._outputs.put(output)
