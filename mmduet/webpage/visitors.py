"""Identifies the visitor of a request, to whom videos and results belong, and its network address."""

from __future__ import annotations

from fastapi import Request

from mmduet.errors import AuthError
from mmduet.server.auth import ANONYMOUS, KeyStore
from mmduet.server.session_manager import SessionManager
from mmduet.server.session_routes import authenticate


def authenticate_visitor(manager: SessionManager, keys: KeyStore, request: Request) -> str:
    """Return the owner of a request; the response has the limits of its key.

    Raises ``AuthError``, on a public page even without a client secret: visitors without one would share their videos.
    """
    owner = authenticate(manager, keys, request)
    if owner == ANONYMOUS and manager.config.public:
        raise AuthError(
            "videos of a public page belong to a client secret; create one and send `Authorization: Bearer SECRET`"
        )
    return owner


def address_of(request: Request) -> str:
    """Return the network address of a request's client."""
    return request.client.host if request.client is not None else "unknown"
