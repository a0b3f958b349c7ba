"""Sessions without a socket: the server pulls the video, the client reads events (server-sent events) when it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from mmduet.protocol.session.event_log import event_number
from mmduet.protocol.settings import SessionUpdate
from mmduet.protocol.wire import Received
from mmduet.server.auth import Keys
from mmduet.server.body import parsed
from mmduet.server.house import House
from mmduet.server.live_session import LiveSession, Reader

MOST_BODY = 1 << 20
COMMENT_SECONDS = 15.0
"""How often a line that means nothing keeps proxies from closing a quiet stream."""


class NewSession(Received):
    """What a session is opened with: ``source`` as for ``input_source.open``, ``query`` is asked at its beginning."""

    source: Annotated[str, Field(min_length=1, max_length=4096)]
    transport: Literal["tcp", "udp"] = "tcp"
    query: str | None = None
    session: SessionUpdate | None = None


def routes(house: House, keys: Keys) -> APIRouter:
    """The endpoints; whoever has the key that opened a session may read and close it."""
    router = APIRouter(prefix="/v1/sessions")

    @router.post("", status_code=201)
    async def create(request: Request) -> Response:
        """Open a session on a source."""
        owner = keys.owner(request.headers)
        wanted = await parsed(request, NewSession, MOST_BODY)
        house.refuse_unless_open(None)
        settings = house.default_settings()
        if wanted.session is not None:
            settings = settings.updated(wanted.session, started=False)
        session = house.admit(owner, settings)
        session.conversation.ends_with_source = True
        for message in _messages(wanted):
            session.receive(json.dumps(message))
        told = session.conversation.told(limits=house.limits(session.conversation.settings))
        return JSONResponse(told.model_dump(), 201, {"Location": f"/v1/sessions/{session.id}"})

    @router.get("/{name}/events")
    async def events(name: str, request: Request) -> Response:
        """Everything it tells, from the beginning or after `Last-Event-ID`, to its end."""
        session = house.owned(name, keys.owner(request.headers))
        if session is None:
            return not_found(name)
        after = event_number(request.headers.get("last-event-id", "")) or 0
        oldest = session.conversation.log.oldest - 1
        return StreamingResponse(_told(session, session.attach(max(after, oldest))), media_type="text/event-stream")

    @router.delete("/{name}", status_code=204)
    async def delete(name: str, request: Request) -> Response:
        """Close it."""
        session = house.owned(name, keys.owner(request.headers))
        if session is None:
            return not_found(name)
        session.done_with = True
        session.close("ended")
        return Response(status_code=204)

    return router


def not_found(name: str) -> JSONResponse:
    """404, in OpenAI's shape."""
    error = {"message": f"there is no session {name!r} of yours", "type": "invalid_request_error", "code": "not_found"}
    return JSONResponse({"error": {**error, "param": None}}, 404)


def _messages(wanted: NewSession) -> list[dict[str, Any]]:
    """What a client with a socket would have sent."""
    messages: list[dict[str, Any]] = []
    if wanted.query is not None:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": wanted.query}]}
        messages.append({"type": "conversation.item.create", "item": item})
    return [*messages, {"type": "input_source.open", "url": wanted.source, "transport": wanted.transport}]


async def _told(session: LiveSession, reader: Reader) -> AsyncIterator[str]:
    """The log as server-sent events, to the session's last."""
    log = session.conversation.log
    try:
        while reader.closing is None:
            reader.cursor = max(reader.cursor, log.oldest - 1)
            entry = log.after(reader.cursor, reader.number)
            if entry is not None:
                reader.cursor = entry.number
                kind = json.loads(entry.text)["type"]
                yield f"id: event_{entry.number:012d}\nevent: {kind}\ndata: {entry.text}\n\n"
            elif session.closed:
                session.done_with = True
                return
            else:
                reader.news.clear()
                try:
                    async with asyncio.timeout(COMMENT_SECONDS):
                        await reader.news.wait()
                except TimeoutError:
                    yield ": still here\n\n"
    finally:
        session.detach(reader)
