"""Opens a WebSocket: follows redirects within the host, and states why a connection or session is not possible."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from mmduet.client.address import SCHEMES
from mmduet.errors import AuthError, CapacityError, MmduetError, RateLimitError, ServerError
from mmduet.protocol.event_ids import format_event_id
from mmduet.protocol.queue_events import WAIT_EXPIRED
from mmduet.protocol.server_events import Error, Session
from mmduet.redaction import redact
from mmduet.text import shorten

CONNECT_SECONDS = 10.0
MAX_REDIRECTS = 5
REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
RETRYABLE_STATUSES = frozenset({502, 503, 504})


async def open_connection(url: str, headers: Mapping[str, str]) -> ClientConnection:
    """Open a WebSocket. Raises ``ServerError`` for a redirect that is not followed, else the exceptions of ``connect``."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _Connect(url, additional_headers=headers, compression=None, max_size=None, ping_interval=20)
    except ServerError as error:
        raise error from None  # the response that it was raised from adds nothing


class _Connect(connect):
    """``connect`` that sends the headers, which hold the key, to no other host than the given one."""

    redirect_count = 0

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the address to try next, or the error to raise."""
        if not isinstance(exc, InvalidStatus) or exc.response.status_code not in REDIRECTS:
            return exc
        self.redirect_count += 1
        location = exc.response.headers.get("Location", "")
        shown, target = shorten(redact(self.uri)), shorten(redact(location))
        if not location:
            return ServerError(f"{shown} redirects without an address; use the server's own address")
        if self.redirect_count > MAX_REDIRECTS:
            return ServerError(f"{shown} redirects more than {MAX_REDIRECTS} times; use the server's own address")
        try:
            return _redirect_target(self.uri, location)
        except ValueError as error:
            return ServerError(f"{shown} redirects to {target}, {error}; use the server's own address")


def _redirect_target(url: str, location: str) -> str:
    """Return the WebSocket URL of a redirect within the host of ``url``. Raises ``ValueError`` with the reason otherwise."""
    old, new = urlsplit(url), _join(url, location)
    scheme = SCHEMES.get(new.scheme)
    if scheme is None or not new.hostname:
        raise ValueError("which is not an address of a server")
    if new.hostname != old.hostname:
        raise ValueError("which is another host")
    if (old.scheme, scheme) == ("wss", "ws"):
        raise ValueError("which is not encrypted")
    user, at, _ = old.netloc.rpartition("@")
    host = new.netloc.rpartition("@")[2]
    return urlunsplit((scheme, f"{user}{at}{host}", new.path, new.query or old.query, ""))


def _join(url: str, location: str) -> SplitResult:
    try:
        parts = urlsplit(urljoin(url, location))
        _ = parts.port
    except ValueError:
        raise ValueError("which is not a valid address") from None
    return parts


def resume_message(session: Session, last_event_number: int) -> str:
    """Return the message that resumes a session after the last event that was received."""
    fields = {"session_id": session.id, "resume_token": session.duet.resume_token or ""}
    return json.dumps({"type": "session.resume", **fields, "last_event_id": format_event_id(last_event_number)})


def admission_error(url: str, error: Error) -> MmduetError:
    """Return the error of a client that has waited for a session and gets none, from the server's."""
    message = f"{url} has opened no session: {error.message}"
    return CapacityError(message) if error.code == WAIT_EXPIRED else ServerError(message)


def permanent_error(url: str, error: Exception, *, has_key: bool, resuming: bool) -> MmduetError | None:
    """Return the error if a retry cannot help: a wrong key or model; at the first attempt a full or absent server.

    At the first attempt that includes a key that may open no more sessions. ``has_key`` is whether a key was sent.
    """
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in (1007, 1009):
        return ServerError(f"{url} rejected a message: {error.rcvd.reason}")
    if isinstance(error, InvalidStatus):
        status, (code, message) = error.response.status_code, _code_and_message(error)
        if status == 401 and code in (None, AuthError.code):
            return _key_error(url, has_key)
        if status in (401, 403):
            return AuthError(f"{url} rejected the connection: {message}")
        if status == 429 and not resuming:
            return RateLimitError(f"{url} opens no further session: {message}")
        if status == 503 and not resuming:
            return CapacityError(f"{url} is full: {message}")
        if status not in RETRYABLE_STATUSES:
            return ServerError(f"{url} responded with status {status}: {message}")
    if not resuming:
        return ServerError(f"{url} cannot be reached ({reason_of(error)}); is a server running there?")
    return None


def reason_of(error: Exception) -> str:
    """Return the message of an exception, with what was received instead of a valid response."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, InvalidMessage) and error.__cause__ is not None:
        return shorten(f"{error}: {error.__cause__}")
    return shorten(str(error)) or type(error).__name__


def _key_error(url: str, has_key: bool) -> AuthError:
    places = "the option --key, the variable MMDUET_KEY or, in Python, the parameter key"
    if has_key:
        return AuthError(f"{url} does not accept the API key; correct {places}")
    return AuthError(f"{url} requires an API key and none was sent; set {places}")


def _code_and_message(error: InvalidStatus) -> tuple[str | None, str]:
    """Return the code and the message in the response. The code is None if it does not come from an mmduet server."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        body = json.loads(error.response.body or b"")["error"]
        return str(body["code"]), str(body["message"])
    return None, error.response.reason_phrase
