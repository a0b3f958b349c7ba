"""HTTP endpoints that list, describe and control open sessions, so that a session without a socket can be managed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from mmduet.protocol.client_events import MAX_TEXT_CHARS, ResponseOptions
from mmduet.protocol.server_events import Item
from mmduet.protocol.session_status import SessionList, SessionStatus
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import ClientModel
from mmduet.server.auth import KeyStore
from mmduet.server.error_schema import describe_errors
from mmduet.server.live_session import LiveSession
from mmduet.server.request_body import parse_body
from mmduet.server.session_commands import (
    append_query,
    check_open,
    describe,
    pause_source,
    request_reply,
    resume_source,
    update_settings,
)
from mmduet.server.session_manager import SessionManager
from mmduet.server.session_routes import MAX_BODY_BYTES, authenticate, find_session

ACCEPTED = {"description": "The request was accepted; the reply is reported in the events and in the status."}


Find = Callable[[str, Request], LiveSession]
"""Returns the session of a request with the id in its path, or raises ``AuthError`` or ``NotFoundError``."""


class CreateQuery(ClientModel):
    """Body of ``POST /v1/sessions/{name}/queries``: a query, which is read before the next frame."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "Is the gate open?"}]})

    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints. Each key and client secret has access to its own sessions only."""
    router, find = APIRouter(prefix="/v1/sessions"), partial(find_session, manager, keys)
    _add_state(router, manager, keys, find)
    _add_input(router, find)
    _add_source(router, find)
    return router


def _add_state(router: APIRouter, manager: SessionManager, keys: KeyStore, find: Find) -> None:
    @router.get("", responses={200: {"model": SessionList}})
    async def list_sessions(request: Request) -> Response:
        """List the sessions, also those on a WebSocket, and those that have ended in the last `time_to_live` seconds."""
        sessions = manager.registry.sessions_of(authenticate(manager, keys, request))
        return _respond(SessionList(data=tuple(describe(session) for session in sessions)))

    @router.get("/{name}", responses={200: {"model": SessionStatus}, **describe_errors(404, 422)})
    async def show(name: str, request: Request) -> Response:
        """Return the state of a session: source, frames, newest reply and error, settings and resume token."""
        return _respond(describe(find(name, request), with_token=True))

    @router.patch(
        "/{name}",
        responses={200: {"model": SessionStatus}, **describe_errors(400, 404, 409, 413, 415, 422, 429, 503)},
    )
    async def update(name: str, request: Request) -> Response:
        """Change settings as `session.update` does. Of an open source, `fps` can be lowered."""
        session = find(name, request)
        body = await parse_body(request, SessionUpdate, MAX_BODY_BYTES, session.limiter.reading_delay)
        update_settings(session, body)
        return _respond(describe(session, with_token=True))


def _add_input(router: APIRouter, find: Find) -> None:
    @router.post(
        "/{name}/queries",
        status_code=202,
        responses={202: {"model": Item}, **describe_errors(400, 404, 409, 413, 415, 422, 429)},
    )
    async def create_query(name: str, request: Request) -> Response:
        """Ask another query. The model replies to it when its policy decides so, or to `POST .../responses`."""
        session = find(name, request)
        body = await parse_body(request, CreateQuery, MAX_BODY_BYTES, session.limiter.reading_delay)
        return _respond(append_query(session, body.query), 202)

    @router.post(
        "/{name}/responses",
        status_code=202,
        responses={202: ACCEPTED, **describe_errors(400, 404, 409, 413, 415, 422, 429)},
    )
    async def create_response(name: str, request: Request) -> Response:
        """Request a reply now, regardless of the speak policy, as `response.create` does."""
        session = find(name, request)
        check_open(session)
        body = await parse_body(request, ResponseOptions, MAX_BODY_BYTES, session.limiter.reading_delay)
        session.limiter.check_tokens()
        request_reply(session, body)
        return Response(status_code=202)


def _add_source(router: APIRouter, find: Find) -> None:
    @router.post("/{name}/pause", responses={200: {"model": SessionStatus}, **describe_errors(404, 409, 422)})
    async def pause(name: str, request: Request) -> Response:
        """Pause the source: a file is not read, and frames of a live source are dropped with the reason `paused`."""
        session = find(name, request)
        pause_source(session)
        return _respond(describe(session, with_token=True))

    @router.post("/{name}/resume", responses={200: {"model": SessionStatus}, **describe_errors(404, 409, 422)})
    async def resume(name: str, request: Request) -> Response:
        """Continue with the source after a pause."""
        session = find(name, request)
        resume_source(session)
        return _respond(describe(session, with_token=True))


def _respond(model: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(model.model_dump(mode="json"), status)
