"""HTTP endpoints for sessions without a socket: the server reads a source, and the client reads events as SSE."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from mmduet.errors import NotFoundError, ProtocolError, SourceError
from mmduet.protocol.client_events import MAX_TEXT_CHARS, OpenSource, Speed
from mmduet.protocol.event_ids import format_event_id, parse_event_id
from mmduet.protocol.server_events import Session
from mmduet.protocol.session_status import SourceStatus
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import ClientModel, NullMeans
from mmduet.redaction import redact
from mmduet.server.auth import KeyStore
from mmduet.server.error_schema import describe_errors
from mmduet.server.event_stream import EventStream
from mmduet.server.live_session import LiveSession, Subscriber
from mmduet.server.request_body import parse_body
from mmduet.server.session_commands import append_query
from mmduet.server.session_manager import SessionManager
from mmduet.text import shorten

MAX_BODY_BYTES = 1 << 20
LOCATION = {"description": "Path of the session.", "schema": {"type": "string"}}
READ_COMPLETELY = {"description": "The session has ended and has no events after `Last-Event-ID`."}
CREATE_EXAMPLE: JsonDict = {
    "source": "rtsp://camera.example/stream",
    "query": "Narrate the scene.",
    "session": {"type": "realtime", "duet": {"fps": 2}},
}
THUMBNAIL = "input_frame.thumbnail"
KEEPALIVE_SECONDS = 15.0
"""Interval of SSE comments, which keep proxies from closing a quiet stream."""


class CreateSession(ClientModel):
    """Body of ``POST /v1/sessions``: ``source`` and ``speed`` as in ``input_source.open``, and an initial ``query``.

    With ``paused``, the source is paused from the beginning, for example until a client reads the events.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [CREATE_EXAMPLE]})

    source: Annotated[str, Field(min_length=1, max_length=4096)]
    transport: Annotated[Literal["tcp", "udp"], NullMeans("tcp")] = "tcp"
    speed: Speed | None = None
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)] | None = None
    session: SessionUpdate | None = None
    paused: Annotated[bool, NullMeans(False)] = False


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints; the key that opened a session may read and close it."""
    router = APIRouter(prefix="/v1/sessions")

    @router.post(
        "",
        status_code=201,
        responses={
            201: {"model": Session, "headers": {"Location": LOCATION}},
            **describe_errors(400, 413, 415, 429, 503, 507),
        },
    )
    async def create(request: Request) -> Response:
        """Open a session on a source that the server's settings allow; whether it can be read is seen in the status."""
        owner = authenticate(manager, keys, request)
        body = await parse_body(request, CreateSession, MAX_BODY_BYTES, manager.limiters.of(owner).reading_delay)
        session = await _open_session(manager, owner, body)
        limits = manager.limits(session.conversation.settings)
        description = session.conversation.to_session(limits=limits, resume_token=session.token)
        location = f"{request.scope.get('root_path', '')}/v1/sessions/{session.id}"
        return JSONResponse(description.model_dump(), 201, {"Location": location})

    @router.get(
        "/{name}/events",
        status_code=200,
        response_class=EventStream,
        responses={204: READ_COMPLETELY, **describe_errors(404, 422)},
    )
    async def events(name: str, request: Request, last_event_id: Annotated[str, Header()] = "") -> Response:
        """Stream the session's events until it closes, from the beginning or after `Last-Event-ID`.

        Events of a session that has ended can be read for `time_to_live` seconds.
        """
        session = find_session(manager, keys, name, request)
        after = parse_event_id(last_event_id) or 0
        if session.closed and after == session.conversation.log.last_number:
            return Response(status_code=204)  # an EventSource, which reconnects when a stream ends, stops
        subscriber = session.attach(max(after, session.conversation.log.first_number - 1))
        return EventStream(_stream_events(session, subscriber))

    @router.delete("/{name}", status_code=204, responses=describe_errors(404, 422))
    async def delete(name: str, request: Request) -> Response:
        """Close the session. Closing a session that has ended or was closed before has the same answer."""
        if not manager.registry.delete(name, authenticate(manager, keys, request)):
            raise _not_found(name)
        return Response(status_code=204)

    return router


def authenticate(manager: SessionManager, keys: KeyStore, request: Request) -> str:
    """Return the owner of a request; the response has the limits of its key. Raises ``AuthError``."""
    owner = keys.owner(request.headers)
    request.state.limiter = manager.limiters.of(owner)
    return owner


def find_session(manager: SessionManager, keys: KeyStore, session_id: str, request: Request) -> LiveSession:
    """Return a session of the key that a request presents. Raises ``AuthError`` or ``NotFoundError``."""
    session = manager.registry.find_by_owner(session_id, authenticate(manager, keys, request))
    if session is None:
        raise _not_found(session_id)
    return session


def _not_found(session_id: str) -> NotFoundError:
    """Return the error for a session that an owner does not have; it does not reveal whether somebody else has."""
    return NotFoundError(f"session {shorten(session_id)!r} does not exist or belongs to another key; check the id")


async def _open_session(manager: SessionManager, owner: str, body: CreateSession) -> LiveSession:
    """Return a session that reads the body's source and ends with it.

    Raises as ``SessionManager.admit`` does, and ``ProtocolError`` for a source that the settings do not allow and for a
    query that the model cannot read. ``RateLimitError`` also means that the key has too many sources.
    """
    manager.check_accepting(None)
    settings = manager.default_settings()
    if body.session is not None:
        settings = settings.with_update(body.session, started=False)
    try:
        await asyncio.to_thread(manager.media.check_source, body.source, owner)
    except SourceError as error:
        raise ProtocolError(str(error), error.code, param="source") from None
    manager.limiters.of(owner).check_source()
    session = manager.admit(owner, settings)
    session.limiter.open_source(session.id)
    session.conversation.ends_with_source = True
    session.activity.source = SourceStatus(url=redact(body.source), state="connecting", speed=body.speed)
    session.source.pace.paused = body.paused
    session.conversation.check_speak_policy()
    try:
        if body.query is not None:
            append_query(session, body.query)
        opening = OpenSource(type="input_source.open", url=body.source, transport=body.transport, speed=body.speed)
        session.execute(opening)
    except BaseException:
        session.finished = True
        session.close("failed")
        raise
    return session


async def _stream_events(session: LiveSession, subscriber: Subscriber) -> AsyncIterator[str]:
    """Yield the log as server-sent events until the session's last event."""
    log = session.conversation.log
    try:
        while subscriber.closing is None:
            subscriber.cursor = max(subscriber.cursor, log.first_number - 1)
            entry = session.next_event(subscriber)
            if entry is not None:
                subscriber.cursor = entry.number
                kind = json.loads(entry.text)["type"]
                event_id = "" if kind == THUMBNAIL else f"id: {format_event_id(entry.number)}\n"
                yield f"{event_id}event: {kind}\ndata: {entry.text}\n\n"
            elif session.closed and session.all_sendable:
                return
            else:
                subscriber.wakeup.clear()
                try:
                    async with asyncio.timeout(KEEPALIVE_SECONDS):
                        await subscriber.wakeup.wait()
                except TimeoutError:
                    yield ": still here\n\n"
    finally:
        session.detach(subscriber)
