"""HTTP endpoints that list and describe the served model, as OpenAI's API does."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.session_manager import SessionManager


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter()

    def model_card() -> dict[str, Any]:
        return {"id": manager.model_name, "object": "model", "created": manager.started_at, "owned_by": "mmduet"}

    @add_get_and_head(router, "/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """List the served models."""
        keys.owner(request.headers)
        return {"object": "list", "data": [model_card()]}

    @add_get_and_head(router, "/v1/models/{name:path}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        """Describe the served model."""
        keys.owner(request.headers)
        manager.check_accepting(name)
        return model_card()

    return router
