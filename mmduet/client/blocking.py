"""Blocking client: the methods of ``engine.Stream`` for a session at a server, run by an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mmduet.client.admission_wait import QueueCallback, log_queue_status
from mmduet.client.connection_status import ConnectionCallback, log_connection_status
from mmduet.client.images import Encoding
from mmduet.client.output_decoder import OutputDecoder
from mmduet.client.session import RemoteSession
from mmduet.errors import SessionClosedError
from mmduet.events import Context, Frame, Output, Query
from mmduet.options import SpeakOptions
from mmduet.protocol import server_events

if TYPE_CHECKING:  # it would import PyAV
    from mmduet.video.network import Transport

T = TypeVar("T")


class RemoteStream:
    """Blocking form of ``RemoteSession``, with the same arguments and errors; ``encoding`` is that of pushed frames.

    Use it as ``with RemoteStream(url) as stream`` with ``push``, ``end`` and ``outputs``.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        max_reconnect_seconds: float | None = None,
        encoding: Encoding = "jpeg",
        block_when_behind: bool = False,
        session: server_events.Session | None = None,
        on_connection_change: ConnectionCallback = log_connection_status,
        wait_seconds: float | None = None,
        on_queued: QueueCallback = log_queue_status,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "url": url, "key": key, "model": model, "max_reconnect_seconds": max_reconnect_seconds,
            "block_when_behind": block_when_behind, "session": session,
            "on_connection_change": on_connection_change, "wait_seconds": wait_seconds, "on_queued": on_queued,
        }  # fmt: skip
        self._encoding: Encoding = encoding
        self._closed, self._lock = False, threading.Lock()
        self._remote: RemoteSession | None = None  # once connected
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mmduet-client", daemon=True)

    def __enter__(self) -> Self:
        """Connect. Raises ``SessionClosedError`` if another thread closes the stream meanwhile."""
        with self._lock:
            if self._closed:
                raise SessionClosedError("the stream was closed; open another")
            self._thread.start()
        try:
            self._remote = self._call(self._connect())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    @property
    def _session(self) -> RemoteSession:
        if self._remote is None:
            raise SessionClosedError("the stream is not connected; use it in a `with` statement")
        return self._remote

    @property
    def session(self) -> server_events.Session:
        """The session as the server has created it."""
        assert self._session.created is not None
        return self._session.created

    def update(self, *, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        """Change settings, see ``RemoteSession.update``."""
        self._call(self._session.update(duet=duet, **fields))

    def push(self, item: Frame | Query | Context) -> None:
        """Send a frame or a turn. A turn is read after the frames pushed so far, whatever its time."""
        if isinstance(item, Frame):
            self._call(self._session.push(item.image, item.time, self._encoding))
        elif isinstance(item, Query):
            self._call(self._session.ask(item.text, item.time))
        else:
            self._call(self._session.add_context(item.text, item.time, keep=item.keep))

    def speak_now(self) -> None:
        """Request a reply regardless of the speak policy."""
        self._call(self._session.speak_now())

    def update_speak(self, speak: SpeakOptions) -> None:
        """Use other speak options from the next frame on. Raises ``OptionError`` if the server rejects them."""
        self.update(duet={"speak": speak.to_dict()})

    def cancel(self) -> None:
        """Stop the reply that is being generated."""
        self._call(self._session.cancel())

    def open_source(self, url: str, *, transport: Transport = "tcp", speed: float | None = None) -> None:
        """Let the server read a source, see ``RemoteSession.open_source``."""
        self._call(self._session.open_source(url, transport=transport, speed=speed))

    def update_source(self, *, paused: bool | None = None, speed: float | EllipsisType | None = ...) -> None:
        """Pause or continue the source, or change its speed, see ``RemoteSession.update_source``."""
        self._call(self._session.update_source(paused=paused, speed=speed))

    def close_source(self) -> None:
        """Stop reading the source."""
        self._call(self._session.close_source())

    def end(self) -> None:
        """Announce that no more frames follow."""
        self._call(self._session.end())

    def close(self) -> None:
        """Disconnect; ``events`` and ``outputs`` end."""
        with self._lock:
            if not self._thread.is_alive():
                self._closed = True
            if self._closed:
                return
        if self._remote is not None:
            with suppress(SessionClosedError):  # closed by another thread meanwhile
                self._call(self._remote.__aexit__(None, None, None))
        self._stop()

    def events(self) -> Iterator[server_events.ServerEvent]:
        """Yield the server's events as they arrive, up to the last one."""
        iterator = aiter(self._session)
        while True:
            try:
                yield self._call(_next(iterator))
            except StopAsyncIteration:
                return

    def outputs(self) -> Iterator[Output]:
        """Yield the events as outputs, as ``engine.Stream`` does."""
        decoder = OutputDecoder()
        for event in self.events():
            yield from decoder.decode(event)

    async def _connect(self) -> RemoteSession:
        return await RemoteSession(**self._arguments).__aenter__()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                coroutine.close()
                raise SessionClosedError("the stream was closed; open another")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:  # closed by another thread during the call
            raise SessionClosedError("the stream was closed; open another") from None

    def _stop(self) -> None:
        """Stop the loop and cancel its tasks, so that blocked calls in other threads return."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_remaining_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_remaining_tasks() -> None:
    """Cancel all other tasks of the loop and wait for them."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _next(iterator: Any) -> Any:
    return await anext(iterator)
