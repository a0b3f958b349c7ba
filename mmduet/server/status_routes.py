"""HTTP endpoints about the server itself: health, readiness, version, metrics and client secrets."""

from __future__ import annotations

import platform
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

import mmduet
from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.error_response import RETRY_AFTER_SECONDS
from mmduet.server.session_manager import SessionManager

STOPPED = "The engine has stopped; restart the server."
FULL = "The server is full, shutting down, or its engine has stopped."


class Status(BaseModel):
    """State of the server."""

    status: str


class Readiness(Status):
    """State of a server that admits sessions, and how many of the default size."""

    free_sessions: int


class ClientSecret(BaseModel):
    """A short-lived key for a browser, when it expires (Unix time in seconds), and the settings of its sessions."""

    value: str
    expires_at: int
    session: dict[str, Any]


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints. Those for probes (health, ready, version, metrics) need no key."""
    router = APIRouter()

    @add_get_and_head(
        router, "/health", responses={200: {"model": Status}, 500: {"model": Status, "description": STOPPED}}
    )
    async def health() -> dict[str, str]:
        """Report whether the engine is running."""
        if not manager.engine.alive:
            return JSONResponse({"status": "the engine has stopped"}, 500)  # type: ignore[return-value]
        return {"status": "ok"}

    @add_get_and_head(
        router, "/ready", responses={200: {"model": Readiness}, 503: {"model": Status, "description": FULL}}
    )
    async def ready() -> Response:
        """Report whether a new session would be admitted now."""
        free = manager.budget.free_sessions
        alive = manager.engine.alive
        if manager.draining or free < 1 or not alive:
            status = "closing" if manager.draining else "full" if alive else "the engine has stopped"
            return JSONResponse({"status": status}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        return JSONResponse({"status": "ready", "free_sessions": free})

    @add_get_and_head(router, "/version")
    async def version() -> dict[str, str]:
        """Return the versions of mmduet and Python."""
        return {"mmduet": mmduet.__version__, "python": platform.python_version()}

    @add_get_and_head(router, "/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(manager.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.post("/v1/realtime/client_secrets", responses={200: {"model": ClientSecret}})
    async def client_secrets(request: Request) -> dict[str, Any]:
        """Create a short-lived key for a browser; its sessions belong to the key of this request."""
        secret, expires = keys.create_client_secret(keys.owner(request.headers, allow_client_secrets=False))
        settings = manager.default_settings()
        return {"value": secret, "expires_at": int(expires), "session": {"type": "realtime", **settings.to_wire()}}

    return router
