"""A WebSocket as the way to a session: admission before the upgrade, one task that always reads, one that writes."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from fastapi import Response, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from mmduet.errors import CapacityError, MmduetError, ProtocolError
from mmduet.protocol import server_events as told
from mmduet.protocol.client_events import SessionResume, parse_client_event
from mmduet.protocol.session.conversation import ProtocolAbuse
from mmduet.protocol.session.event_log import event_name, event_number
from mmduet.server.auth import Keys, refuse_strangers, spoken
from mmduet.server.house import House
from mmduet.server.http import problem
from mmduet.server.live_session import LiveSession, Reader

log = logging.getLogger(__name__)

NORMAL, POLICY, TOO_SLOW, EXPIRED, REPLACED = 1000, 1008, 4008, 4004, 4001
RESUME_SECONDS = 10.0
GOODBYE_SECONDS = 1.0


class Denied(Exception):  # noqa: N818 - the answer to a handshake
    """The socket is not upgraded; ``response`` is the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


async def realtime(ws: WebSocket, house: House, keys: Keys) -> None:
    """Serve one socket from its handshake to its end."""
    try:
        owner = _let_in(ws, house, keys)
        session = None if "resume" in ws.query_params else _admitted(house, owner)
    except Denied as denied:
        await ws.send_denial_response(denied.response)
        return
    try:
        await ws.accept(subprotocol=spoken(ws.scope["subprotocols"]))
        resume = await _serve(ws, house, session, session.attach(0)) if session else await _first_resume(ws)
        if resume is not None:
            await _resumed(ws, house, owner, resume)
    except (WebSocketDisconnect, RuntimeError) as gone:  # Starlette raises RuntimeError for sending after the end
        log.debug("socket gone: %s", gone)
        if session is not None and session.conversation.consumed == 0:
            session.close("ended")


def _let_in(ws: WebSocket, house: House, keys: Keys) -> str:
    try:
        refuse_strangers(ws.headers, keys, house.config.allowed_origins)
        owner = keys.owner(ws.headers, ws.scope["subprotocols"])
        house.refuse_unless_open(ws.query_params.get("model"))
    except MmduetError as error:
        raise Denied(problem(error)) from error
    return owner


def _admitted(house: House, owner: str) -> LiveSession:
    try:
        return house.admit(owner)
    except CapacityError as error:
        raise Denied(problem(error)) from error


async def _first_resume(ws: WebSocket) -> SessionResume:
    """The first message of a client that said in its URL that it comes to resume."""
    try:
        async with asyncio.timeout(RESUME_SECONDS):
            event = await ws.receive()
    except TimeoutError:
        event = {"type": "websocket.receive", "text": ""}
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1006))
    resume = as_resume(event.get("text"))
    if resume is None:
        await _close(ws, POLICY, "session.resume was announced and did not come first")
        raise WebSocketDisconnect(POLICY)
    return resume


def as_resume(message: str | bytes | None) -> SessionResume | None:
    """The message, if it is ``session.resume``."""
    if not isinstance(message, str) or "session.resume" not in message:
        return None
    with contextlib.suppress(ProtocolError):
        event = parse_client_event(message)
        return event if isinstance(event, SessionResume) else None
    return None


async def _resumed(ws: WebSocket, house: House, owner: str, resume: SessionResume) -> None:
    session = house.find(resume.session_id, resume.resume_token, owner)
    if session is None:
        event = told.SessionExpired(session_id=resume.session_id, event_id=event_name(0))
        await ws.send_text(event.model_dump_json())
        await _close(ws, EXPIRED, "expired")
        return
    events = session.conversation.log
    after = event_number(resume.last_event_id) if resume.last_event_id is not None else 0
    complete = after is not None and events.holds_after(after)
    reader = session.attach(after if after is not None and complete else events.oldest - 1)
    kind = told.SessionResumed if complete else told.ResyncRequired
    session.tell(kind(session_id=session.id, last_consumed_client_message_index=session.conversation.consumed - 1))
    log.info("session %s resumed", session.id)
    await _serve(ws, house, session, reader)


async def _serve(ws: WebSocket, house: House, session: LiveSession, reader: Reader) -> SessionResume | None:
    """Until either side ends it. A client that left with 1000 is done with its session; one that was lost may resume.

    Returns the client's wish to resume another session, if that is the first thing it sends.
    """
    reading = asyncio.create_task(_read(ws, session, reader))
    writing = asyncio.create_task(_write(ws, session, reader, house.config.send_timeout))
    resume = None
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        outcome = await _goodbye(ws, reading)
        if isinstance(outcome, SessionResume):
            resume = outcome
        if session.reader is reader and (resume is not None or outcome == NORMAL):
            session.done_with = True
            session.close("ended")
    finally:
        session.detach(reader)
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)
    return resume


async def _goodbye(ws: WebSocket, reading: asyncio.Task[int | SessionResume]) -> int | SessionResume:
    """How reading ended; where we closed and the client does not answer, its socket is cut."""
    await asyncio.wait({reading}, timeout=GOODBYE_SECONDS)
    if reading.done():
        return reading.result()
    if (abort := ws.scope.get("state", {}).get("abort")) is not None:
        abort()
    return TOO_SLOW


async def _read(ws: WebSocket, session: LiveSession, reader: Reader) -> int | SessionResume:
    """Take what the client sends until it stops; returns the code that it closed with, or its wish to resume another."""
    while True:
        event = await ws.receive()
        if event["type"] == "websocket.disconnect":
            return int(event.get("code") or 1006)
        if (
            session.reader is not reader
        ):  # what is still on its way belongs to the socket that took over, which sends it again
            return REPLACED
        message = event["text"] if event.get("text") is not None else event["bytes"]
        if session.conversation.consumed == 0 and (resume := as_resume(message)) is not None:
            return resume
        try:
            session.receive(message)
        except ProtocolAbuse as abuse:
            log.warning("session %s: closed for abuse: %s", session.id, abuse.reason)
            await _close(ws, abuse.code, abuse.reason)
            return abuse.code


async def _write(ws: WebSocket, session: LiveSession, reader: Reader, seconds: float) -> None:
    """Send the log as it grows. A client that does not read is closed, and may resume."""
    events = session.conversation.log
    while True:
        if reader.cursor < events.oldest - 1:
            return await _close(ws, TOO_SLOW, "too slow: events were lost")
        entry = events.after(reader.cursor, reader.number)
        if entry is None:
            if reader.closing is not None:
                return await _close(ws, *reader.closing)
            if session.closed:
                session.done_with = True
                return await _close(ws, NORMAL, "session closed")
            reader.news.clear()
            await reader.news.wait()
            continue
        try:
            async with asyncio.timeout(seconds):
                await ws.send_text(entry.text)
        except TimeoutError:
            log.warning("session %s: the client does not read; closed", session.id)
            return await _close(ws, TOO_SLOW, "too slow")
        except (WebSocketDisconnect, RuntimeError):
            return None  # the reading task sees it too
        reader.cursor = entry.number


async def _close(ws: WebSocket, code: int, reason: str) -> None:
    """Close, if it is not closed; a client that does not read must not hold us up."""
    if ws.application_state is not WebSocketState.DISCONNECTED:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(1.0):
                await ws.close(code, reason[:120])
