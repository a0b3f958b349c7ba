"""Completes and checks the address of a server."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from mmduet.errors import OptionError
from mmduet.redaction import redact

PATH = "/v1/realtime"
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_SINGLE_SLASH = re.compile(r"[a-z]+:/(?!/)", re.IGNORECASE)


def websocket_url(url: str) -> str:
    """Return the full WebSocket URL for ``url``, which may lack the scheme, and the path or its end.

    ``/v1/realtime`` is appended to a base URL with a path prefix (``https://host/mmduet``, ``https://host/api/v1``). Raises
    ``OptionError`` if the address is not valid.
    """
    parts = _split(url.strip())
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise _invalid(url, "; use ws://HOST:PORT, or wss:// over TLS")
    if "@" in parts.path:
        raise _invalid(url, ": its user or password has a special character; percent-encode it, as in %2F for a slash")
    return urlunsplit((scheme, parts.netloc, _complete_path(parts.path), "", ""))


def http_url(url: str) -> str:
    """Return the address below which the HTTP endpoints of a server lie, for the addresses that ``websocket_url`` accepts."""
    parts = urlsplit(websocket_url(url))
    scheme = "https" if parts.scheme == "wss" else "http"
    return urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/realtime"), "", ""))


def _split(url: str) -> SplitResult:
    if _SINGLE_SLASH.match(url) or any(char.isspace() for char in url):
        raise _invalid(url, "; use ws://HOST:PORT, or wss:// over TLS")
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError as error:  # an invalid name, port or IPv6 address
        reason = "" if "@" in url else f": {error}"  # which may contain a part of a password
        raise _invalid(url, f"{reason}; use ws://HOST:PORT") from None
    return parts


def _invalid(url: str, reason: str) -> OptionError:
    return OptionError(f"server {redact(url)!r} is not a valid address{reason}")


def _complete_path(path: str) -> str:
    path = path.rstrip("/")
    if path.endswith("/realtime"):
        return path
    return f"{path}/realtime" if path.endswith("/v1") else path + PATH
