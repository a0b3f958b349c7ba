"""HTTP endpoints that list and describe the served model, as OpenAI's API does."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.error_schema import describe_errors
from mmduet.server.session_manager import SessionManager


class ModelCard(BaseModel):
    """The served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All served models."""

    object: Literal["list"]
    data: list[ModelCard]


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter()

    def model_card() -> dict[str, Any]:
        return {"id": manager.model_name, "object": "model", "created": manager.started_at, "owned_by": "mmduet"}

    @add_get_and_head(router, "/v1/models", responses={200: {"model": ModelList}})
    async def models(request: Request) -> dict[str, Any]:
        """List the served models."""
        keys.owner(request.headers)
        return {"object": "list", "data": [model_card()]}

    @add_get_and_head(
        router, "/v1/models/{name:path}", responses={200: {"model": ModelCard}, **describe_errors(404, 422, 503)}
    )
    async def model(name: str, request: Request) -> dict[str, Any]:
        """Describe the served model."""
        keys.owner(request.headers)
        manager.check_accepting(name)
        return model_card()

    return router
