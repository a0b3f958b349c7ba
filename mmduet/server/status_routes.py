"""HTTP endpoints about the server itself: health, readiness, version, metrics and client secrets."""

from __future__ import annotations

import platform
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

import mmduet
from mmduet.errors import CapacityError
from mmduet.server.auth import KeyStore
from mmduet.server.client_secrets import ClientSecret
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.error_response import RETRY_AFTER_SECONDS
from mmduet.server.session_manager import SessionManager

STOPPED = "The engine has stopped; restart the server."
FULL = "The server is full or overloaded, shutting down, or its engine has stopped."
SECRET_EXAMPLE: JsonDict = {
    "value": "ek_...",
    "expires_at": 1790000000,
    "session": {"type": "realtime", "model": "nano"},
}


class Status(BaseModel):
    """State of the server."""

    status: str


class Readiness(Status):
    """State of a server that admits sessions, and how many of the default size."""

    free_sessions: int


class ClientSecretResponse(BaseModel):
    """A short-lived key for a browser, when it expires (Unix time in seconds), and the settings of its sessions."""

    model_config = ConfigDict(json_schema_extra={"examples": [SECRET_EXAMPLE]})

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
        if (status := _refusal(manager)) is not None:
            return JSONResponse({"status": status}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        return JSONResponse({"status": "ready", "free_sessions": manager.admission.free_sessions})

    @add_get_and_head(router, "/version")
    async def version() -> dict[str, str]:
        """Return the versions of mmduet and Python."""
        return {"mmduet": mmduet.__version__, "python": platform.python_version()}

    @add_get_and_head(router, "/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(manager.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def describe_secret(secret: ClientSecret) -> dict[str, Any]:
        session = {"type": "realtime", **manager.default_settings().to_wire()}
        return {"value": secret.value, "expires_at": secret.expires_at, "session": session}

    @router.post("/v1/realtime/client_secrets", responses={200: {"model": ClientSecretResponse}})
    async def client_secrets(request: Request) -> dict[str, Any]:
        """Create a short-lived key for a browser, which has its own sessions and the limits of its key."""
        return describe_secret(keys.create_client_secret(keys.owner(request.headers, allow_client_secrets=False)))

    @router.post("/v1/realtime/client_secrets/renew", responses={200: {"model": ClientSecretResponse}})
    async def renew_client_secret(request: Request) -> dict[str, Any]:
        """Replace the client secret that comes as key by one that expires later and has the same sessions."""
        return describe_secret(keys.renew_client_secret(request.headers))

    return router


def _refusal(manager: SessionManager) -> str | None:
    """Return why a new session would be refused now; None if it would be admitted."""
    if manager.draining:
        return "closing"
    if not manager.engine.alive:
        return "the engine has stopped"
    if manager.budget.free_sessions < 1:
        return "full"
    try:
        manager.admission.check_load(manager.default_settings())
    except CapacityError:
        return "overloaded"
    return None
