"""The socket of a client in the admission queue: reports its position, and keeps what it sends for its session."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Any

from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from mmduet.errors import MmduetError, ProtocolError
from mmduet.protocol.event_ids import format_event_id
from mmduet.protocol.queue_events import MAX_WAIT_SECONDS, WAIT_EXPIRED, SessionQueued
from mmduet.protocol.server_events import Error, ErrorEvent
from mmduet.server.admission_queue import AdmissionQueue, QueueClosed, Ticket
from mmduet.server.auth import accepted_subprotocol
from mmduet.server.live_session import LiveSession
from mmduet.server.log_events import CLIENT_LEFT_QUEUE, CLIENT_QUEUED, CLIENT_TOO_SLOW
from mmduet.server.socket_close import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    TOO_SLOW,
    TRY_AGAIN_LATER,
    close_socket,
)
from mmduet.text import shorten

log = logging.getLogger(__name__)
UPDATE_SECONDS = 1.0
MIN_CHANGE_SECONDS, MIN_CHANGE_SHARE = 1.0, 0.1
"""By how much an estimate must change to be reported: in seconds, and as a share of the last one."""
MAX_BUFFERED_MESSAGES, MAX_BUFFERED_BYTES = 256, 64 << 10
"""What is received ahead of a session; more waits at the client. The last message may exceed it."""
MAX_FULL_SECONDS = 10.0
"""How long the buffer may stay full: meanwhile nothing is read, so that a disconnection is not noticed."""
EVENT_ID = format_event_id(0)


def parse_wait(text: str) -> float:
    """Return the seconds in ``wait`` of the URL; 0 is the same as without it. Raises ``ProtocolError``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise ProtocolError(
            f"wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}, got {shorten(text)!r}",
            "invalid_value",
            param="wait",
        )
    return seconds


class ReceiveBuffer:
    """Receives from a socket before its messages can be processed, so that a disconnection is noticed."""

    def __init__(self, ws: WebSocket) -> None:
        self._ws, self._messages, self._size = ws, deque[Message](), 0

    async def fill(self) -> int:
        """Receive until the client disconnects, and return its close code. It may be cancelled without losing a message.

        When the buffer is full, stop reading: flow control slows the client. Raises ``QueueClosed`` after
        ``MAX_FULL_SECONDS`` of it.
        """
        while len(self._messages) < MAX_BUFFERED_MESSAGES and self._size < MAX_BUFFERED_BYTES:
            message = await self._ws.receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or ABNORMAL_CLOSURE)
            self._messages.append(message)
            self._size += len(message.get("text") or message.get("bytes") or "")
        await asyncio.sleep(MAX_FULL_SECONDS)
        raise QueueClosed(POLICY_VIOLATION, "too much was sent before session.created; wait for it before sending")

    async def receive(self) -> Message:
        """Return the next message, from the buffer as long as it has any."""
        return self._messages.popleft() if self._messages else await self._ws.receive()


class QueuedSocket:
    """A socket whose client waits for at most ``wait_seconds``. Sending one event may take ``send_timeout`` seconds."""

    def __init__(
        self, ws: WebSocket, queue: AdmissionQueue, ticket: Ticket, wait_seconds: float, send_timeout: float
    ) -> None:
        self._ws, self._queue, self._ticket = ws, queue, ticket
        self._wait_seconds, self._send_timeout = wait_seconds, send_timeout
        self._buffer = ReceiveBuffer(ws)
        self._reported: SessionQueued | None = None

    async def receive(self) -> Message:
        """Return the client's next message, including those that it sent while it waited."""
        return await self._buffer.receive()

    async def wait(self) -> LiveSession | None:
        """Accept the socket and return the client's session; None if it gets none, and the socket is closed.

        Raises ``WebSocketDisconnect`` if the client disconnects.
        """
        start = monotonic()
        outcome: LiveSession | Exception = WebSocketDisconnect(ABNORMAL_CLOSURE)
        CLIENT_QUEUED.emit(log, position=self._ticket.position, timeout_s=self._wait_seconds)
        try:
            await self._ws.accept(subprotocol=accepted_subprotocol(self._ws.scope["subprotocols"]))
            outcome = await self._wait_for_outcome(start + self._wait_seconds)
        finally:
            if not isinstance(outcome, LiveSession):
                self._queue.leave(self._ticket)
            CLIENT_LEFT_QUEUE.emit(log, reason=_reason(outcome), duration_s=round(monotonic() - start, 3))
        if isinstance(outcome, LiveSession):
            return outcome
        await self._reject(outcome)
        return None

    async def _wait_for_outcome(self, deadline: float) -> LiveSession | Exception:
        """Return the session, or the error instead of one."""
        decided, reading = self._ticket.outcome, asyncio.create_task(self._buffer.fill())
        either: set[asyncio.Future[Any]] = {decided, reading}
        try:
            while True:
                if reading.done():
                    raise WebSocketDisconnect(reading.result())
                if decided.done():
                    return decided.result()
                if (remaining := deadline - monotonic()) <= 0:
                    message = f"no session has become free within {self._wait_seconds:g} s; try again later"
                    return ProtocolError(message, WAIT_EXPIRED)
                await self._report_position()
                timeout = min(remaining, UPDATE_SECONDS)
                await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        except QueueClosed as closed:
            return closed
        except TimeoutError:
            CLIENT_TOO_SLOW.emit(log)
            return QueueClosed(TOO_SLOW, "too slow")
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _report_position(self) -> None:
        """Send the client's position unless it knows it. Raises ``TimeoutError`` if the client does not read."""
        wait = self._ticket.estimated_wait
        event = SessionQueued(
            position=self._ticket.position,
            estimated_wait_s=None if wait is None else round(wait, 1),
            event_id=EVENT_ID,
        )
        if self._reported is None or _differs_noticeably(event, self._reported):
            async with asyncio.timeout(self._send_timeout):
                await self._ws.send_text(event.model_dump_json())
            self._reported = event

    async def _reject(self, error: Exception) -> None:
        """Report why the client gets no session, and close the socket. Raises unexpected errors."""
        if isinstance(error, QueueClosed):
            return await close_socket(self._ws, error.code, error.reason)
        if not isinstance(error, MmduetError):
            raise error
        details = Error(type="server_error", code=error.code, message=str(error))
        await self._ws.send_text(ErrorEvent(error=details, event_id=EVENT_ID).model_dump_json())
        code = TRY_AGAIN_LATER if error.code == WAIT_EXPIRED else INTERNAL_ERROR
        return await close_socket(self._ws, code, str(error))


def _differs_noticeably(event: SessionQueued, reported: SessionQueued) -> bool:
    new, old = event.estimated_wait_s, reported.estimated_wait_s
    if event.position != reported.position or new is None or old is None:
        return event != reported
    return abs(new - old) > max(MIN_CHANGE_SECONDS, MIN_CHANGE_SHARE * old)


def _reason(outcome: LiveSession | Exception) -> str:
    """Return for the log why a client does not wait any more."""
    if isinstance(outcome, LiveSession):
        return "admitted"
    if isinstance(outcome, WebSocketDisconnect):
        return "disconnected"
    return "expired" if getattr(outcome, "code", None) == WAIT_EXPIRED else str(outcome)
