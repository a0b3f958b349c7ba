"""The WebSocket endpoint: admission before the upgrade, then one task that receives and one that sends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from fastapi import Response, WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from mmduet.errors import CapacityError, MmduetError, ProtocolError
from mmduet.protocol import server_events
from mmduet.protocol.client_events import ResumeSession, parse_client_event
from mmduet.protocol.event_ids import format_event_id, parse_event_id
from mmduet.protocol.session.limits import ProtocolAbuse
from mmduet.protocol.session_update import DuetUpdate, SessionUpdate
from mmduet.server.auth import KeyStore, accepted_subprotocol, check_origin
from mmduet.server.error_response import error_response
from mmduet.server.live_session import REPLACED, LiveSession, Subscriber
from mmduet.server.log_events import (
    CLIENT_TOO_SLOW,
    PROTOCOL_ABUSE,
    SESSION_NOT_RESUMED,
    SESSION_RESUMED,
    SOCKET_DISCONNECTED,
)
from mmduet.server.queued_socket import QueuedSocket, parse_wait
from mmduet.server.session_manager import SessionManager
from mmduet.server.socket_close import (
    ABNORMAL_CLOSURE,
    EXPIRED,
    NORMAL_CLOSURE,
    POLICY_VIOLATION,
    TOO_SLOW,
    close_socket,
)
from mmduet.text import shorten

log = logging.getLogger(__name__)

RESUME_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 1.0
Receive = Callable[[], Awaitable[Message]]


class HandshakeRejected(Exception):  # noqa: N818 - an HTTP response, not a failure of the server
    """The socket is not upgraded; ``response`` is sent instead."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


async def handle_socket(ws: WebSocket, manager: SessionManager, keys: KeyStore) -> None:
    """Serve one socket from its handshake to its end."""
    try:
        owner = _authenticate(ws, manager, keys)
        admitted = None if "resume" in ws.query_params else _admit(ws, manager, owner)
    except HandshakeRejected as rejected:
        await ws.send_denial_response(rejected.response)
        return
    session, receive = admitted if isinstance(admitted, LiveSession) else None, ws.receive
    try:
        if isinstance(admitted, QueuedSocket):
            session, receive = await admitted.wait(), admitted.receive
            if session is None:
                return
        else:
            await ws.accept(subprotocol=accepted_subprotocol(ws.scope["subprotocols"]))
        if session is not None:
            resume = await _serve(ws, manager, session, session.attach(0), receive)
        else:
            resume = await _receive_resume(ws)
        if resume is not None:
            await _resume(ws, manager, owner, resume)
    except (WebSocketDisconnect, RuntimeError) as error:  # Starlette raises RuntimeError for sending after the end
        SOCKET_DISCONNECTED.emit(log, detail=str(error))
        if session is not None and session.conversation.consumed_count == 0:
            session.close("ended")


def _authenticate(ws: WebSocket, manager: SessionManager, keys: KeyStore) -> str:
    """Return the owner of the presented key. Raises ``HandshakeRejected``."""
    try:
        check_origin(ws.headers, keys, manager.config.allowed_origins)
        is_resume = "resume" in ws.query_params  # opens no session, and needs the resume token as well
        owner = keys.owner(ws.headers, ws.scope["subprotocols"], allow_expired=is_resume)
        ws.state.limiter = manager.limiters.of(owner)
        manager.check_accepting(ws.query_params.get("model"))
    except MmduetError as error:
        raise HandshakeRejected(error_response(error)) from error
    return owner


def _admit(ws: WebSocket, manager: SessionManager, owner: str) -> LiveSession | QueuedSocket:
    """Return a new session, or the socket in the queue if the URL has ``wait`` and no session can be opened yet."""
    settings = manager.default_settings()
    try:
        if (text := ws.query_params.get("max_frame_age")) is not None:
            settings = settings.with_update(_parse_max_frame_age(text), started=False)
        seconds = parse_wait(ws.query_params.get("wait", "0"))
        if seconds == 0:
            return manager.admit(owner, settings)
        admitted = manager.enqueue(owner, settings)
        if isinstance(admitted, LiveSession):
            return admitted
        return QueuedSocket(ws, manager.queue, admitted, seconds, manager.config.send_timeout)
    except (CapacityError, ProtocolError) as error:
        raise HandshakeRejected(error_response(error)) from error


def _parse_max_frame_age(text: str) -> SessionUpdate:
    """Return the update that sets ``max_frame_age`` of the URL. Raises ``ProtocolError``."""
    try:
        return SessionUpdate(type="realtime", duet=DuetUpdate(max_frame_age=None if text == "null" else float(text)))
    except ValueError:
        raise ProtocolError(
            f"max_frame_age must be a number of seconds above 0 or null, got {shorten(text)!r}",
            "invalid_value",
            param="max_frame_age",
        ) from None


async def _receive_resume(ws: WebSocket) -> ResumeSession:
    """Return the first message of a client whose URL has ``resume``; close the socket if it is something else."""
    try:
        async with asyncio.timeout(RESUME_TIMEOUT_SECONDS):
            event = await ws.receive()
    except TimeoutError:
        event = {"type": "websocket.receive", "text": ""}
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", ABNORMAL_CLOSURE))
    resume = parse_resume(event.get("text"))
    if resume is None:
        await close_socket(ws, POLICY_VIOLATION, "the URL has `resume`: the first message must be session.resume")
        raise WebSocketDisconnect(POLICY_VIOLATION)
    return resume


def parse_resume(message: str | bytes | None) -> ResumeSession | None:
    """Return the message if it is a valid ``session.resume``, else None."""
    if not isinstance(message, str) or "session.resume" not in message:
        return None
    with contextlib.suppress(ProtocolError):
        event = parse_client_event(message)
        return event if isinstance(event, ResumeSession) else None
    return None


async def _resume(ws: WebSocket, manager: SessionManager, owner: str, resume: ResumeSession) -> None:
    session = manager.registry.find_by_token(resume.session_id, resume.resume_token, owner)
    if session is None:
        SESSION_NOT_RESUMED.emit(log, session=shorten(resume.session_id), key=owner)
        event = server_events.SessionExpired(session_id=resume.session_id, event_id=format_event_id(0))
        await ws.send_text(event.model_dump_json())
        await close_socket(ws, EXPIRED, "expired")
        return
    events = session.conversation.log
    after = parse_event_id(resume.last_event_id) if resume.last_event_id is not None else 0
    complete = after is not None and events.has_all_after(after)
    subscriber = session.attach(after if after is not None and complete else events.first_number - 1)
    outcome = server_events.SessionResumed if complete else server_events.ResyncRequired
    session.send(
        outcome(session_id=session.id, last_consumed_client_message_index=session.conversation.consumed_count - 1)
    )
    SESSION_RESUMED.emit(log, session=session.id, key=owner, complete=complete)
    await _serve(ws, manager, session, subscriber, ws.receive)


async def _serve(
    ws: WebSocket, manager: SessionManager, session: LiveSession, subscriber: Subscriber, receive: Receive
) -> ResumeSession | None:
    """Receive messages with ``receive`` and send events until either side closes.

    A client that closes with 1000 ends its session; a client whose connection is lost may resume it. Returns a request
    to resume another session if that is the client's first message.
    """
    sending = asyncio.create_task(_send_loop(ws, session, subscriber, manager.config.send_timeout))
    receiving = asyncio.create_task(_receive_loop(ws, session, subscriber, receive, sending))
    resume = None
    try:
        await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
        outcome = await _closing_handshake(ws, receiving)
        if isinstance(outcome, ResumeSession):
            resume = outcome
        if session.subscriber is subscriber and (resume is not None or outcome == NORMAL_CLOSURE):
            session.finished = True
            session.close("ended")
    finally:
        session.detach(subscriber)
        for task in (receiving, sending):
            task.cancel()
        await asyncio.gather(receiving, sending, return_exceptions=True)
    return resume


async def _closing_handshake(ws: WebSocket, receiving: asyncio.Task[int | ResumeSession]) -> int | ResumeSession:
    """Return the result of receiving; abort the connection if the client does not answer our close frame."""
    await asyncio.wait({receiving}, timeout=CLOSE_TIMEOUT_SECONDS)
    if receiving.done():
        return receiving.result()
    if (abort := ws.scope.get("state", {}).get("abort")) is not None:
        abort()
    return TOO_SLOW


async def _receive_loop(
    ws: WebSocket, session: LiveSession, subscriber: Subscriber, receive: Receive, sending: asyncio.Task[None]
) -> int | ResumeSession:
    """Process messages until the client stops; return its close code, or its request to resume another session.

    At the key's rate of bytes it stops reading for a while, so that the connection's flow control slows the client.
    """
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return int(event.get("code") or ABNORMAL_CLOSURE)
        if session.subscriber is not subscriber:
            return REPLACED  # the client sends unacknowledged messages again on its new socket
        if session.input_stopped:
            continue  # likewise
        message = event["text"] if event.get("text") is not None else event["bytes"]
        if session.conversation.consumed_count == 0 and (resume := parse_resume(message)) is not None:
            return resume
        try:
            session.receive(message)
        except ProtocolAbuse as abuse:
            PROTOCOL_ABUSE.emit(log, session=session.id, code=abuse.code, reason=abuse.reason)
            await close_socket(ws, abuse.code, abuse.reason)
            return abuse.code
        if (delay := _reading_delay(session, message)) > 0:
            await asyncio.wait({sending}, timeout=delay)  # reads on at once for the closing handshake


def _reading_delay(session: LiveSession, message: str | bytes) -> float:
    """Count the bytes of a message and return for how many seconds no more may be read. The client is not idle meanwhile."""
    limiter = session.limiter
    if limiter.limits.bytes_per_second is None:
        return 0.0
    delay = limiter.reading_delay(len(message.encode() if isinstance(message, str) else message))
    if delay > 0:
        session.last_message_at = monotonic() + delay
        session.wake()  # reports the limit
    return delay


async def _send_loop(ws: WebSocket, session: LiveSession, subscriber: Subscriber, timeout_seconds: float) -> None:
    """Send the event log as it grows. Close the socket of a client that does not read; it may resume."""
    events = session.conversation.log
    while True:
        if subscriber.cursor < events.first_number - 1:
            return await close_socket(ws, TOO_SLOW, "too slow: events were lost")
        entry = session.next_event(subscriber)
        if entry is None:
            if not session.all_sendable:
                await _wait_for_events(subscriber)
                continue
            if subscriber.closing is not None:
                return await close_socket(ws, *subscriber.closing)
            if session.closed:
                session.finished = True
                return await close_socket(ws, NORMAL_CLOSURE, "session closed")
            await _wait_for_events(subscriber)
            continue
        try:
            async with asyncio.timeout(timeout_seconds):
                await ws.send_text(entry.text)
        except TimeoutError:
            CLIENT_TOO_SLOW.emit(log, session=session.id)
            return await close_socket(ws, TOO_SLOW, "too slow")
        except (WebSocketDisconnect, RuntimeError):
            return None  # the receiving task ends as well
        subscriber.cursor = entry.number


async def _wait_for_events(subscriber: Subscriber) -> None:
    subscriber.wakeup.clear()
    await subscriber.wakeup.wait()
