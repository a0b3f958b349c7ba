"""One thread owns the engine; everybody else talks to it through bounded queues. Knows threads, no model.

A source that pushes faster than the engine watches is made to wait (``push`` blocks); a reader that does not read holds up
nobody, since what a session says is bounded by what was pushed to it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.errors import EngineError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Scores, SessionFailed, StreamEnded
from mmduet.options import SessionOptions


class Stream:
    """A session as its owner sees it from another thread; made by ``EngineThread.open``."""

    def __init__(self, thread: EngineThread, session: Session, max_frames: int) -> None:
        self._thread, self._session = thread, session
        self._room = threading.Semaphore(max_frames)
        self._outputs: queue.SimpleQueue[Output | None] = queue.SimpleQueue()

    def push(self, item: Frame | Query | Context) -> None:
        """Put something on the timeline; waits while too many frames are unread. Raises ``SessionClosedError`` at the end."""
        if not isinstance(item, Frame):
            return self._thread.ask(lambda engine: engine.push(self._session, item))
        picture = self._thread.engine.prepare(item)
        while not self._room.acquire(timeout=0.2):
            self._refuse_if_over()
        self._refuse_if_over()
        self._thread.post(lambda engine: engine.push(self._session, picture))
        return None

    def _refuse_if_over(self) -> None:
        self._thread.refuse_if_stopped()
        self._session.refuse_if_over()

    def end(self) -> None:
        """No more frames will come."""
        self._thread.ask(lambda engine: engine.end(self._session))

    def speak_now(self) -> None:
        """Reply after the latest frame, whatever the policy says."""
        self._thread.ask(lambda engine: engine.speak_now(self._session))

    def cancel(self) -> None:
        """Stop the reply that is being written."""
        self._thread.ask(lambda engine: engine.cancel(self._session))

    def close(self) -> None:
        """Drop the session at once; ``outputs`` stops."""
        if self._thread.alive:
            self._thread.ask(self._thread.forget(self._session))
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

    def deliver(self, output: Output | None) -> None:
        """Called by the engine's thread; None ends ``outputs``."""
        if isinstance(output, Scores):
            self._room.release()
        self._outputs.put(output)


class EngineThread:
    """Runs an engine until the ``with`` block ends."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._requests: queue.SimpleQueue[Callable[[Engine], None] | None] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._failure: BaseException | None = None
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
        return self._thread.is_alive()

    def open(self, options: SessionOptions | None = None, max_frames: int = 32) -> Stream:
        """A new session, of which at most ``max_frames`` frames wait unread."""
        opened: list[Stream] = []

        def request(engine: Engine) -> None:
            session = engine.open(options)
            opened.append(Stream(self, session, max_frames))
            self._streams[session.id] = opened[0]

        self.ask(request)
        return opened[0]

    def ask(self, request: Callable[[Engine], None]) -> None:
        """Have ``request`` carried out by the engine's thread, and wait; what it raises is raised here."""
        done = threading.Event()
        raised: list[BaseException] = []

        def carried_out(engine: Engine) -> None:
            try:
                request(engine)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                raised.append(error)
            finally:
                done.set()

        self._requests.put(carried_out)
        while not done.wait(timeout=0.2):
            self.refuse_if_stopped()
        if raised:
            raise raised[0]

    def post(self, request: Callable[[Engine], None]) -> None:
        """Have ``request`` carried out in its turn, without waiting; it must not raise but for a session that is over."""

        def carried_out(engine: Engine) -> None:
            with contextlib.suppress(SessionClosedError):  # closed meanwhile: its owner knows
                request(engine)

        self._requests.put(carried_out)

    def forget(self, session: Session) -> Callable[[Engine], None]:
        """The request that drops a session."""

        def request(engine: Engine) -> None:
            engine.close(session)
            self._streams.pop(session.id, None)

        return request

    def refuse_if_stopped(self) -> None:
        """Raise if requests are no longer carried out: what stopped the thread, or ``SessionClosedError``."""
        if not self.alive:
            self.raise_failure()
            raise SessionClosedError("the engine has stopped; nothing more can be asked of it")

    def raise_failure(self) -> None:
        """Raise ``EngineError`` from what stopped the engine's thread, if something did."""
        if self._failure is not None:
            raise EngineError(f"the engine stopped: {self._failure}") from self._failure

    def _main(self) -> None:
        try:
            while self._serve_requests():
                for session, output in self.engine.step():
                    self._streams[session.id].deliver(output)
                    if isinstance(output, StreamEnded | SessionFailed):
                        del self._streams[session.id]
        except BaseException as error:  # noqa: BLE001 - the thread's edge: told to all who wait on it
            self._failure = error
        finally:
            for stream in self._streams.values():
                stream.deliver(None)

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
            request(self.engine)
            wait = False
