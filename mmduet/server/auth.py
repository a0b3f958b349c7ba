"""Who may come in: keys, short-lived client secrets, origins; compares in constant time and never tells what was wrong."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from time import time
from urllib.parse import urlsplit

from mmduet.errors import AuthError, OriginError
from mmduet.server.config import LOOPBACK

KEY_PROTOCOL = "mmduet.key."
OPENAI_KEY_PROTOCOL = "openai-insecure-api-key."
"""What OpenAI's own browser clients put a client secret into."""
REALTIME_PROTOCOLS = ("mmduet", "realtime")
ANYBODY = "anybody"


class Keys:
    """The keys of a server. Without any, whoever reaches it may come in (and it listens on loopback alone)."""

    def __init__(self, keys: Iterable[str], secret_seconds: float) -> None:
        self._keys = tuple(keys)
        self._seconds = secret_seconds
        self._secrets: dict[str, tuple[str, float]] = {}  # owner and expiry by digest

    def owner(self, headers: Mapping[str, str], protocols: Iterable[str] = (), *, secrets: bool = True) -> str:
        """Whose key comes with a request, as a name that is no secret. Raises ``AuthError``.

        ``secrets``: a client secret will do as well.
        """
        if not self._keys:
            return ANYBODY
        for key in presented(headers, protocols):
            found = [name_of(known) for known in self._keys if hmac.compare_digest(key.encode(), known.encode())]
            owner = found[0] if found else self._owner_of_secret(key) if secrets else None
            if owner is not None:
                return owner
        raise AuthError("no valid key came with the request; send `Authorization: Bearer KEY`")

    @property
    def needed(self) -> bool:
        """Whether a key has to be brought."""
        return bool(self._keys)

    def client_secret(self, owner: str) -> tuple[str, float]:
        """A key for a browser, and when it expires, in seconds since 1970."""
        self._forget_expired()
        secret, expires = f"ek_{secrets.token_urlsafe(24)}", time() + self._seconds
        self._secrets[_digest(secret)] = owner, expires
        return secret, expires

    def _owner_of_secret(self, key: str) -> str | None:
        self._forget_expired()
        found = self._secrets.get(_digest(key))  # a look-up by digest gives nothing away
        return found[0] if found is not None else None

    def _forget_expired(self) -> None:
        now = time()
        self._secrets = {digest: kept for digest, kept in self._secrets.items() if kept[1] > now}


def presented(headers: Mapping[str, str], protocols: Iterable[str]) -> list[str]:
    """The keys that come with a request: in its Authorization header, or among a browser's subprotocols."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    keys = [key.strip()] if scheme.lower() == "bearer" and key.strip() else []
    for protocol in protocols:
        for prefix in (KEY_PROTOCOL, OPENAI_KEY_PROTOCOL):
            if protocol.startswith(prefix):
                keys.append(protocol.removeprefix(prefix))
    return keys


def spoken(protocols: Iterable[str]) -> str | None:
    """The subprotocol to answer with: one of ours, never the one that holds the key."""
    return next((protocol for protocol in protocols if protocol in REALTIME_PROTOCOLS), None)


def refuse_strangers(headers: Mapping[str, str], keys: Keys, allowed: Iterable[str]) -> None:
    """Raise ``OriginError`` for pages of other origins, and, where no key is needed, for other names of this machine."""
    if not origin_allowed(headers, allowed):
        raise OriginError(f"pages of {headers['origin']} may not connect; add it to allowed_origins")
    if not keys.needed and not host_allowed(headers):
        raise OriginError(f"host {headers.get('host', '')!r} is not this machine; use 127.0.0.1, or set a key")


def origin_allowed(headers: Mapping[str, str], allowed: Iterable[str]) -> bool:
    """Whether a page of this origin may connect: those that are allowed, and pages of the server itself. No page, no origin."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.split("://", 1)[-1] == headers.get("host", "")


def host_allowed(headers: Mapping[str, str]) -> bool:
    """Whether a request names this machine as its host: a page elsewhere may have pointed its own name here (DNS rebinding)."""
    return urlsplit(f"//{headers.get('host', '')}").hostname in LOOPBACK


def name_of(key: str) -> str:
    """A key as it may be logged and counted by."""
    return f"key-{_digest(key)[:8]}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
