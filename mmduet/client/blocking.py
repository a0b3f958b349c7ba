"""A session with a server for code that blocks: the same calls as ``engine.Stream``, carried out by a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from mmduet.client.images import Encoding
from mmduet.client.output_decoder import OutputDecoder
from mmduet.client.session import RemoteSession
from mmduet.errors import SessionClosedError
from mmduet.events import Context, Frame, Output, Query
from mmduet.protocol import server_events

T = TypeVar("T")


class RemoteStream:
    """``with RemoteStream(url) as stream``: ``push``, ``end``, ``outputs``. Raises as ``RemoteSession`` does."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        give_up: float | None = None,
        encoding: Encoding = "jpeg",
        block_when_behind: bool = False,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "url": url, "key": key, "model": model, "give_up": give_up, "block_when_behind": block_when_behind,
        }  # fmt: skip
        self._encoding: Encoding = encoding
        self._closed, self._entering = False, threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mmduet-client", daemon=True)

    def __enter__(self) -> Self:
        """Connect."""
        self._thread.start()
        try:
            self._session: RemoteSession = self._do(self._connected())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""
        self.close()

    @property
    def session(self) -> server_events.Session:
        """The session as the server created it."""
        assert self._session.created is not None
        return self._session.created

    def update(self, *, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        """Set the session (see ``RemoteSession.update``)."""
        self._do(self._session.update(duet=duet, **fields))

    def push(self, item: Frame | Query | Context) -> None:
        """A frame; or a turn, which is read where the stream stands, whatever its time says."""
        if isinstance(item, Frame):
            self._do(self._session.push(item.image, item.time, self._encoding))
        elif isinstance(item, Query):
            self._do(self._session.ask(item.text, item.time))
        else:
            self._do(self._session.add_context(item.text, item.time, keep=item.keep))

    def speak_now(self) -> None:
        """Have the model reply, whatever its policy says."""
        self._do(self._session.speak_now())

    def cancel(self) -> None:
        """Stop the reply that is being written."""
        self._do(self._session.cancel())

    def end(self) -> None:
        """No more frames will come."""
        self._do(self._session.end())

    def close(self) -> None:
        """Leave; ``outputs`` stops."""
        if not self._thread.is_alive():
            self._closed = True
        elif not self._closed:
            with suppress(SessionClosedError):  # another thread was faster
                self._do(self._session.__aexit__(None, None, None))
            self._stop()

    def events(self) -> Iterator[server_events.ServerEvent]:
        """The server's events, as they come, to the last."""
        iterator = aiter(self._session)
        while True:
            try:
                yield self._do(_next(iterator))
            except StopAsyncIteration:
                return

    def outputs(self) -> Iterator[Output]:
        """The events as outputs of the timeline."""
        translator = OutputDecoder()
        for event in self.events():
            yield from translator.outputs(event)

    async def _connected(self) -> RemoteSession:
        return await RemoteSession(**self._arguments).__aenter__()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        with self._entering:
            if self._closed:
                work.close()
                raise SessionClosedError("the stream was closed; open another")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:  # the stream was closed while this was waited for
            raise SessionClosedError("the stream was closed; open another") from None

    def _stop(self) -> None:
        """Nothing enters the loop any more; what is in it is cut short, so that nobody waits for it in vain."""
        with self._entering:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_remaining_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_remaining_tasks() -> None:
    """What sockets leave behind in the loop ends before the loop does."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _next(iterator: Any) -> Any:
    return await anext(iterator)
