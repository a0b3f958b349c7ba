"""Asyncio client of a session with a server; it reconnects and resumes the session on its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from mmduet.client.address import websocket_url
from mmduet.client.admission_wait import AdmissionWait, QueueCallback, log_queue_status
from mmduet.client.connecting import (
    CONNECT_SECONDS,
    admission_error,
    open_connection,
    permanent_error,
    reason_of,
    resume_message,
)
from mmduet.client.connection_status import ConnectionCallback, Reconnection, log_connection_status
from mmduet.client.images import Encoding, encode_image
from mmduet.client.outbox import Outbox
from mmduet.client.source_requests import SourceRequests
from mmduet.errors import ConnectionLostError, MmduetError, OptionError, ServerError, SessionClosedError
from mmduet.protocol import server_events
from mmduet.protocol.event_ids import parse_event_id
from mmduet.protocol.frames import pack_frame
from mmduet.redaction import redact

MAX_UNCONSUMED = 256  # messages
MESSAGES_PER_HEARTBEAT = 32
HEARTBEAT_SECONDS = 5.0  # between heartbeats of an idle client
CREATE_SECONDS = 2 * CONNECT_SECONDS  # for connecting and the first event together
MIN_RECONNECT_SECONDS = 60.0
CLOSE_SECONDS = 1.0


class RemoteSession(SourceRequests):
    """Run a session at a server: ``async with RemoteSession(url) as session``, then push, ask and iterate over its events.

    A lost connection is replaced and the session resumed, for at most ``max_reconnect_seconds`` (None: a minute, or the time
    for which the server keeps the session if that is longer, because a restarted server has to load the model first). Then
    iteration and pending calls raise ``ConnectionLostError``. ``on_connection_change`` is called with every change; by default
    changes are logged. Raises ``AuthError`` for a wrong key, ``CapacityError`` if the
    server is full, and ``ServerError`` for anything else that prevents a connection.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        max_reconnect_seconds: float | None = None,
        block_when_behind: bool = False,
        session: server_events.Session | None = None,
        on_connection_change: ConnectionCallback = log_connection_status,
        wait_seconds: float | None = None,
        on_queued: QueueCallback = log_queue_status,
    ) -> None:
        """With ``block_when_behind``, ``push`` waits while the server is behind, so that no frame of a file is dropped.

        The session then opens with ``max_frame_age`` null. With ``session``, as ``SessionsClient`` returns it, that session is
        taken over instead of opening a new one. While the server is full, the client waits for ``wait_seconds`` (default: not
        at all) and calls ``on_queued`` with its position when it changes.
        """
        self._address = websocket_url(url)
        self.url = redact(self._address)  # for messages
        self._reconnection = Reconnection(self.url, on_connection_change)
        self._wait = AdmissionWait(self.url, wait_seconds, on_queued)
        self.created = session
        self._has_connected = False
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._model, self._block_when_behind = model, block_when_behind
        self._max_reconnect_seconds = max_reconnect_seconds
        self._unfinished_frames = 0  # frames that are neither scored nor dropped
        self._reports_every_frame = True  # whether the server reports every frame
        self._outbox = Outbox()
        self._seq = 0
        self._message_queued, self._capacity_freed, self._connected = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._last_event_number = 0  # number of the last event
        self._error: Exception | None = None
        self._closed = False
        self._run: asyncio.Task[None] | None = None
        self._updates: dict[
            str, asyncio.Future[str | None]
        ] = {}  # by event id, oldest first; the error message, or None

    async def __aenter__(self) -> Self:
        """Connect and wait until the session has been created."""
        self._run = asyncio.create_task(self._run_until_closed())
        opened = asyncio.create_task(self._connected.wait())
        try:
            await asyncio.wait([self._run, opened], timeout=CREATE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._wait.is_active:
                timeout = self._wait.remaining + CREATE_SECONDS
                await asyncio.wait([self._run, opened], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not self._has_connected:
                raise self._error or ServerError(
                    f"{self.url} accepts connections but is not an mmduet server; check it"
                )
        except BaseException:
            await self._cancel_run()
            raise
        finally:
            opened.cancel()
            await asyncio.gather(opened, return_exceptions=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect. A session that has not ended is closed."""
        if self._run is not None:
            if self._closed:  # only the socket has to be closed
                await asyncio.wait([self._run], timeout=CLOSE_SECONDS)
            await self._cancel_run()

    async def _cancel_run(self) -> None:
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])

    # Input

    async def update(self, *, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        """Change settings and wait for the server: ``update(duet={"fps": 2}, instructions="…")``, see docs/protocol.md.

        Raises ``OptionError`` if the server rejects them; the session then continues with its previous settings.
        """
        session = {"type": "realtime", **fields, **({"duet": duet} if duet is not None else {})}
        event_id, result = f"update-{self._outbox.appended_count}", asyncio.get_running_loop().create_future()
        self._updates[event_id] = result
        try:
            await self.send("session.update", session=session, event_id=event_id)
            message = await result
        except SessionClosedError:
            self._updates.pop(event_id, None)
            raise
        if message is not None:
            raise OptionError(message)

    async def push(self, image: NDArray[np.uint8] | bytes, time: float, encoding: Encoding = "jpeg") -> int:
        """Send a frame at ``time`` seconds and return its seq: RGB uint8 ``[H, W, 3]``, or JPEG, PNG or WebP bytes."""
        encoded = encode_image(image, encoding)
        while (
            self._block_when_behind
            and self._reports_every_frame
            and self._unfinished_frames * 2 > self._max_waiting_frames()
            and not self._closed
        ):
            self._capacity_freed.clear()
            await self._capacity_freed.wait()
        seq, self._seq = self._seq, self._seq + 1
        self._unfinished_frames += 1
        await self._queue(pack_frame(seq, round(time * 1e6), encoded))
        return seq

    async def ask(self, text: str, time: float | None = None) -> None:
        """Send a query, to be read before the next frame. ``time`` is only repeated in the events of the query."""
        await self._append_turn("user", text, keep=True, time=time)

    async def add_context(self, text: str, time: float | None = None, *, keep: bool = False) -> None:
        """Send context such as a transcript line or a cast list. ``keep`` pins it in the window."""
        await self._append_turn("system", text, keep=keep, time=time)

    async def speak_now(self) -> None:
        """Request a reply regardless of the speak policy."""
        await self.send("response.create")

    async def cancel(self) -> None:
        """Stop the reply that is being generated."""
        await self.send("response.cancel")

    async def end(self) -> None:
        """Announce that no more frames follow. Iteration continues to the last event."""
        await self.send("input_frame.end")

    async def send(self, kind: str, **fields: Any) -> None:
        """Send any event of the protocol."""
        await self._queue(json.dumps({"type": kind, **fields}))

    def _max_waiting_frames(self) -> int:
        limits = self.created.duet.limits if self.created is not None else None
        return limits.max_waiting_frames if limits is not None else 2

    async def _append_turn(self, role: str, text: str, *, keep: bool, time: float | None) -> None:
        extras = {"keep": keep, **({"pts": round(time * 1e6)} if time is not None else {})}
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}], "duet": extras}
        await self.send("conversation.item.create", item=item)

    async def _queue(self, message: str | bytes) -> None:
        """Queue a message; wait first if the server has not consumed enough of the previous ones."""
        self._check_message_size(message)
        while len(self._outbox) >= MAX_UNCONSUMED and not self._closed:
            self._capacity_freed.clear()
            await self._capacity_freed.wait()
        if self._closed:
            raise self._error or SessionClosedError("the session has ended; open another")
        self._outbox.append(message)
        if self._outbox.appended_count % MESSAGES_PER_HEARTBEAT == 0:
            self._outbox.append(json.dumps({"type": "session.heartbeat"}))
        self._message_queued.set()

    def _check_message_size(self, message: str | bytes) -> None:
        limits = self.created.duet.limits if self.created is not None else None
        if limits is not None and len(message) > limits.max_message_bytes:
            raise OptionError(
                f"a message must have at most {limits.max_message_bytes} bytes, got {len(message)}; send smaller images"
            )

    # Events

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield every event up to ``session.closed``. Raise the error that ended the session early."""
        while not (self._closed and self._events.empty()):
            event = await self._events.get()
            if event is not None:
                yield event
        if self._error is not None:
            raise self._error

    # Connections

    async def _run_until_closed(self) -> None:
        try:
            while not self._closed:
                try:
                    await self._run_connection()
                    break
                except (WebSocketException, OSError, TimeoutError) as error:
                    self._connected.clear()
                    resuming = self._has_connected or self._wait.is_active
                    permanent = permanent_error(self.url, error, has_key=bool(self._headers), resuming=resuming)
                    if permanent is not None:
                        raise permanent from None
                    pause = self._reconnection.next_pause(reason_of(error), self._reconnect_seconds)
                    if pause is None:
                        raise self._give_up(reason_of(error)) from None
                    await asyncio.sleep(pause)
        except MmduetError as error:
            self._error = error
            self._reconnection.give_up(str(error))
        except Exception as error:  # noqa: BLE001 - raised by everything that waits for this task
            self._error = ServerError(f"the connection to {self.url} failed ({reason_of(error)}); open a new session")
            self._error.__cause__ = error
        finally:
            self._closed = True
            self._capacity_freed.set()
            for update in self._updates.values():
                if not update.done():
                    update.set_exception(self._error or SessionClosedError("the session has ended; open another"))
                    update.exception()  # mark it as retrieved: the caller may be gone
            self._events.put_nowait(None)

    def _give_up(self, reason: str) -> ConnectionLostError:
        seconds = self._reconnection.seconds
        self._reconnection.give_up(reason)
        return ConnectionLostError(
            f"connection to {self.url} lost ({reason}), gave up after {seconds:.0f} s; open a new session"
        )

    @property
    def _reconnect_seconds(self) -> float:
        if not self._has_connected:
            return self._reconnection.seconds + self._wait.remaining
        if self._max_reconnect_seconds is not None:
            return self._max_reconnect_seconds
        limits = self.created.duet.limits if self.created is not None else None
        return max(MIN_RECONNECT_SECONDS, limits.time_to_live_s if limits is not None else 0.0)

    async def _run_connection(self) -> None:
        """Run one connection until the session ends. Raise the error that ends the connection earlier."""
        ws = await open_connection(f"{self._address}?{urlencode(self._url_parameters())}", self._headers)
        async with ws:
            if self.created is not None:
                await ws.send(resume_message(self.created, self._last_event_number))
            sender = asyncio.create_task(self._send_queued(ws))
            try:
                async for message in ws:
                    await self._on_message(message)
                    if self._closed:
                        return
                raise ConnectionResetError("the server closed the socket")
            except asyncio.CancelledError:
                await ws.close()  # with code 1000, so that the server does not wait for a resume
                raise
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)  # the receiver reports a lost connection

    def _url_parameters(self) -> dict[str, str]:
        model = {"model": self._model} if self._model is not None else {}
        if self.created is not None:
            return {**model, "resume": self.created.id}
        max_frame_age = {"max_frame_age": "null"} if self._block_when_behind else {}
        return {**model, **max_frame_age, **self._wait.url_parameters()}

    async def _send_queued(self, ws: ClientConnection) -> None:
        await self._connected.wait()
        while True:
            message = self._outbox.next_message()
            if message is not None:
                await ws.send(message)
                continue
            self._message_queued.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._message_queued.wait()
            except TimeoutError:
                self._outbox.append(json.dumps({"type": "session.heartbeat"}))

    async def _on_message(self, message: str | bytes) -> None:
        try:
            event = server_events.parse_server_event(message)
        except ValidationError as error:
            raise ServerError(f"{self.url} sent an event that is not valid ({error.error_count()} errors)") from error
        number = parse_event_id(event.event_id) or 0
        if number and number <= self._last_event_number:
            return
        self._last_event_number = max(self._last_event_number, number)
        self._track(event)
        match event:
            case server_events.HeartbeatAck():
                return
            case server_events.SessionQueued():
                self._reconnection.connected()
                self._wait.on_queued(event.position, event.estimated_wait_s)
                return
            case server_events.ErrorEvent(error=details) if self.created is None:
                raise admission_error(self.url, details)
            case server_events.SessionExpired():
                raise ConnectionLostError(f"session {event.session_id} has expired at {self.url}; open a new session")
            case server_events.SessionReplaced():
                raise ConnectionLostError(f"session {event.session_id} was resumed on another connection")
            case server_events.ErrorEvent(error=details) if details.event_id in self._updates:
                self._finish_update(details.event_id or "", details.message)
                return
            case server_events.SessionUpdated() if self._updates:
                self._finish_update(next(iter(self._updates)), None)
        self._events.put_nowait(event)

    def _track(self, event: Any) -> None:
        """Update the session, the consumed messages and the unfinished frames from an event."""
        match event:
            case server_events.SessionCreated():
                self._on_created(event.session)
            case server_events.SessionUpdated(session=session):
                self._reports_every_frame = session.duet.ack
            case server_events.SessionResumed() | server_events.ResyncRequired():
                complete = isinstance(event, server_events.SessionResumed)
                if not complete:
                    self._fail_pending_updates()
                self._on_resumed(event.last_consumed_client_message_index)
                self._reconnection.connected("" if complete else "the server no longer has all events since the loss")
            case server_events.HeartbeatAck():
                self._outbox.acknowledge(event.last_consumed_client_message_index)
                self._capacity_freed.set()
            case server_events.FrameScored() | server_events.FrameDropped():
                self._unfinished_frames -= 1
                self._capacity_freed.set()
            case server_events.SessionClosed():
                self._closed = True

    def _on_created(self, session: server_events.Session) -> None:
        is_taken_over, self.created = self.created is not None, session
        if not is_taken_over:  # else session.resumed follows
            self._has_connected = True
            self._reconnection.connected()
            self._connected.set()

    def _on_resumed(self, last_consumed: int) -> None:
        if self._has_connected:
            self._outbox.rewind(last_consumed)
        else:
            self._outbox.start_after(last_consumed)
        self._has_connected = True
        self._connected.set()

    def _fail_pending_updates(self) -> None:
        """Stop waiting for results whose events were lost."""
        self._unfinished_frames = 0
        for event_id in list(self._updates):
            self._finish_update(event_id, "the answer was lost with the connection; send the update again")

    def _finish_update(self, event_id: str, message: str | None) -> None:
        """Complete a pending ``update``; ``message`` is the server's error, if any."""
        update = self._updates.pop(event_id)
        if not update.done():
            update.set_result(message)
