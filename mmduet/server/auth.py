"""Authenticates requests: API keys, short-lived client secrets and origins.

Keys are compared in constant time, and errors do not reveal which part of a credential was wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from mmduet.errors import AuthError, OriginError
from mmduet.server.client_secrets import PREFIX as SECRET_PREFIX
from mmduet.server.client_secrets import ClientSecret, ClientSecrets
from mmduet.server.config import LOOPBACK_HOSTS
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import AUTH_FAILED
from mmduet.server.request_context import add_request_fields, request_fields
from mmduet.text import shorten

log = logging.getLogger(__name__)

KEY_PROTOCOL = "mmduet.key."
OPENAI_KEY_PROTOCOL = "openai-insecure-api-key."
"""Subprotocol prefix in which OpenAI's browser clients send a client secret."""
REALTIME_PROTOCOLS = ("mmduet", "realtime")
ANONYMOUS = "anybody"


class KeyStore:
    """The API keys of a server and the client secrets that it issues.

    Without keys every request is accepted: with a client secret as that visitor, otherwise as ``ANONYMOUS``. The server then
    listens on loopback only. Without ``signing_key``, client secrets are valid until the server stops.
    """

    def __init__(self, keys: Iterable[str], client_secret_seconds: float, signing_key: bytes | None = None) -> None:
        self._keys = tuple(keys)
        self._accounts = tuple(key_id(key) for key in self._keys) or (ANONYMOUS,)
        self._client_secrets = ClientSecrets(signing_key or secrets.token_bytes(32), client_secret_seconds)
        self.failures = LimitedWarning(AUTH_FAILED, log)  # one line per client address and minute

    def owner(
        self,
        headers: Mapping[str, str],
        protocols: Iterable[str] = (),
        *,
        allow_client_secrets: bool = True,
        allow_expired: bool = False,
    ) -> str:
        """Return the id of the key or client secret that a request presents, which may be logged.

        ``allow_expired`` accepts a client secret after its expiry. Raises ``AuthError`` if there is no valid key.
        """
        presented = presented_keys(headers, protocols)
        client_secrets = [key for key in presented if key.startswith(SECRET_PREFIX)] if allow_client_secrets else []
        owner = self._owner_of_key(presented)
        for secret in client_secrets:
            owner = owner or self._client_secrets.owner_of(secret, self._accounts, allow_expired=allow_expired)
        if owner is None and client_secrets:
            raise self._failure(
                "invalid client secret",
                "no valid key came with the request: the client secret has expired or is not of this server; "
                "create another, or renew it before it expires",
            )
        if owner is None and self.required:
            raise self._failure(
                "wrong key" if presented else "no key",
                "no valid key came with the request; send `Authorization: Bearer KEY`",
            )
        owner = owner or ANONYMOUS
        add_request_fields(key=owner)
        return owner

    def _owner_of_key(self, presented: Iterable[str]) -> str | None:
        """Return the id of the first API key among the presented keys, None if there is none."""
        for key in presented:
            for known in self._keys:
                if hmac.compare_digest(key.encode(), known.encode()):
                    return key_id(known)
        return None

    def _failure(self, reason: str, message: str) -> AuthError:
        """Log a failed authentication and return its error."""
        client = request_fields().get("client", "unknown")
        self.failures.emit(client, client=client, reason=reason)
        return AuthError(message)

    @property
    def required(self) -> bool:
        """Return whether requests must present a key."""
        return bool(self._keys)

    def create_client_secret(self, owner: str) -> ClientSecret:
        """Return a secret for a new visitor; ``owner`` is the key that creates it."""
        return self._client_secrets.create(owner)

    def create_visitor_secret(self) -> ClientSecret:
        """Return a secret for a new visitor of a public page; it belongs to the first key."""
        return self._client_secrets.create(self._accounts[0])

    def renew_client_secret(self, headers: Mapping[str, str]) -> ClientSecret:
        """Return a new secret for the visitor whose secret a request presents. Raises ``AuthError``."""
        for key in presented_keys(headers, ()):
            renewed = self._client_secrets.renew(key, self._accounts)
            if renewed is not None:
                add_request_fields(key=renewed.owner)
                return renewed
        raise self._failure(
            "invalid client secret",
            "no client secret that can be renewed came with the request; create another with the API key",
        )


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
