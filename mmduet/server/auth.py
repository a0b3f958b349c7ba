"""Authenticates requests: API keys, short-lived client secrets and origins.

Keys are compared in constant time, and errors do not reveal which part of a credential was wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from time import time
from urllib.parse import urlsplit

from mmduet.errors import AuthError, OriginError
from mmduet.server.config import LOOPBACK_HOSTS
from mmduet.text import shorten

KEY_PROTOCOL = "mmduet.key."
OPENAI_KEY_PROTOCOL = "openai-insecure-api-key."
"""Subprotocol prefix in which OpenAI's browser clients send a client secret."""
REALTIME_PROTOCOLS = ("mmduet", "realtime")
ANONYMOUS = "anybody"


class KeyStore:
    """The API keys of a server and the client secrets it has issued.

    Without keys every request is accepted as ``ANONYMOUS``; the server then listens on loopback only.
    """

    def __init__(self, keys: Iterable[str], client_secret_seconds: float) -> None:
        self._keys = tuple(keys)
        self._client_secret_seconds = client_secret_seconds
        self._client_secrets: dict[str, tuple[str, float]] = {}  # digest -> owner, expiry

    def owner(
        self, headers: Mapping[str, str], protocols: Iterable[str] = (), *, allow_client_secrets: bool = True
    ) -> str:
        """Return the id of the key that a request presents, which may be logged.

        Raises ``AuthError`` if there is no valid key. A client secret counts as its owner's key unless
        ``allow_client_secrets`` is False.
        """
        if not self._keys:
            return ANONYMOUS
        for key in presented_keys(headers, protocols):
            found = [key_id(known) for known in self._keys if hmac.compare_digest(key.encode(), known.encode())]
            owner = found[0] if found else self._owner_of_secret(key) if allow_client_secrets else None
            if owner is not None:
                return owner
        raise AuthError("no valid key came with the request; send `Authorization: Bearer KEY`")

    @property
    def required(self) -> bool:
        """Return whether requests must present a key."""
        return bool(self._keys)

    def create_client_secret(self, owner: str) -> tuple[str, float]:
        """Return a new client secret for a browser and its expiry as a Unix time in seconds."""
        self._remove_expired()
        secret, expires = f"ek_{secrets.token_urlsafe(24)}", time() + self._client_secret_seconds
        self._client_secrets[_digest(secret)] = owner, expires
        return secret, expires

    def _owner_of_secret(self, key: str) -> str | None:
        self._remove_expired()
        found = self._client_secrets.get(_digest(key))  # looking up the digest does not leak timing
        return found[0] if found is not None else None

    def _remove_expired(self) -> None:
        now = time()
        self._client_secrets = {digest: entry for digest, entry in self._client_secrets.items() if entry[1] > now}


def presented_keys(headers: Mapping[str, str], protocols: Iterable[str]) -> list[str]:
    """Return the keys in a request's Authorization header and in a browser's WebSocket subprotocols."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    keys = [key.strip()] if scheme.lower() == "bearer" and key.strip() else []
    for protocol in protocols:
        for prefix in (KEY_PROTOCOL, OPENAI_KEY_PROTOCOL):
            if protocol.startswith(prefix):
                keys.append(protocol.removeprefix(prefix))
    return keys


def accepted_subprotocol(protocols: Iterable[str]) -> str | None:
    """Return the offered subprotocol to accept, never one that carries a key; None if there is none."""
    return next((protocol for protocol in protocols if protocol in REALTIME_PROTOCOLS), None)


def check_origin(headers: Mapping[str, str], keys: KeyStore, allowed: Iterable[str]) -> None:
    """Raise ``OriginError`` for a page of another origin.

    Without keys, also raise it for a ``Host`` that is not a loopback name.
    """
    if not is_origin_allowed(headers, allowed):
        raise OriginError(f"origin {shorten(headers['origin'])} is not allowed; add it to allowed_origins")
    if not keys.required and not is_loopback_host(headers):
        raise OriginError(
            f"host {shorten(headers.get('host', ''))!r} is not a loopback name; connect to 127.0.0.1 or configure a key"
        )


def is_origin_allowed(headers: Mapping[str, str], allowed: Iterable[str]) -> bool:
    """Return whether a request has no origin, an allowed origin, or the server's own origin."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.split("://", 1)[-1] == headers.get("host", "")


def is_loopback_host(headers: Mapping[str, str]) -> bool:
    """Return whether the ``Host`` header is a loopback name, which protects against DNS rebinding."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname in LOOPBACK_HOSTS
    except ValueError:  # an IPv6 address with unbalanced brackets
        return False


def key_id(key: str) -> str:
    """Return an id for a key that may be logged and counted."""
    return f"key-{_digest(key)[:8]}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
