"""What is asked of a server over plain HTTP: is it well, does it take more, what does it run, what has it measured."""

from __future__ import annotations

import platform
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

import mmduet
from mmduet.errors import AuthError, CapacityError, MmduetError, NowhereError, OriginError
from mmduet.server.auth import Keys
from mmduet.server.house import House

STATUS: tuple[tuple[type[MmduetError], int], ...] = (
    (OriginError, 403),
    (AuthError, 401),
    (NowhereError, 404),
    (CapacityError, 503),
)
RETRY_SECONDS = 2


def status_of(error: MmduetError) -> int:
    """The HTTP status of an error: 401, 404, 503, or 400 for what the client could do better."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 400)


def problem(error: MmduetError) -> JSONResponse:
    """An error in OpenAI's shape."""
    status = status_of(error)
    kind = {401: "authentication_error", 403: "authentication_error", 503: "server_error"}.get(
        status, "invalid_request_error"
    )
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(RETRY_SECONDS)}}.get(status, {})
    body = {"error": {"message": str(error), "type": kind, "code": error.code, "param": getattr(error, "param", None)}}
    return JSONResponse(body, status, headers)


def routes(house: House, keys: Keys) -> APIRouter:
    """The endpoints; those that probes ask (health, ready, version, metrics) take no key."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers and its engine runs."""
        if not house.room.thread.alive:
            return JSONResponse({"status": "the engine has stopped"}, 500)  # type: ignore[return-value]
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> Response:
        """Whether a session would be let in now."""
        free = house.budget.free
        alive = house.room.thread.alive
        if house.draining or free < 1 or not alive:
            why = "closing" if house.draining else "full" if alive else "the engine has stopped"
            return JSONResponse({"status": why}, 503, {"Retry-After": str(RETRY_SECONDS)})
        return JSONResponse({"status": "ready", "free_sessions": free})

    @router.get("/version")
    async def version() -> dict[str, str]:
        """What runs here."""
        return {"mmduet": mmduet.__version__, "python": platform.python_version()}

    @router.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(house.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """The models that can be asked for."""
        keys.owner(request.headers)
        card = {"id": house.model_name, "object": "model", "created": house.began, "owned_by": "mmduet"}
        return {"object": "list", "data": [card]}

    @router.post("/v1/realtime/client_secrets")
    async def client_secrets(request: Request) -> dict[str, Any]:
        """A key for a browser, good for a minute or so: it opens sessions in the name of the key that asked for it."""
        secret, expires = keys.client_secret(keys.owner(request.headers, secrets=False))
        settings = house.default_settings()
        return {"value": secret, "expires_at": int(expires), "session": {"type": "realtime", **settings.told()}}

    return router
