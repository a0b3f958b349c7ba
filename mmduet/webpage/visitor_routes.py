"""The endpoint at which visitors of a public page get a client secret without a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from mmduet.errors import AuthError
from mmduet.server.auth import KeyStore
from mmduet.server.session_manager import SessionManager
from mmduet.webpage.visitor_rate import VisitorRate
from mmduet.webpage.visitors import address_of


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoint."""

    router, rate = APIRouter(), VisitorRate()

    @router.post("/visitors", include_in_schema=False)
    async def create_visitor(request: Request) -> dict[str, Any]:
        """Return a client secret for a new visitor.

        Raises ``AuthError`` unless the page is public, and ``RateLimitError`` if its address has created too many visitors.
        """
        if not manager.config.public:
            raise AuthError("this page is not public; enter an access key")
        rate.take(address_of(request))
        secret = keys.create_visitor_secret()
        return {"value": secret.value, "expires_at": secret.expires_at}

    return router
