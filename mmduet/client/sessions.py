"""Blocking client for the sessions of a server over HTTP: sessions on a source that the server reads, without a socket."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from mmduet.client.address import http_url
from mmduet.errors import (
    AuthError,
    CapacityError,
    ConflictError,
    MmduetError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from mmduet.protocol.server_events import Item, Session
from mmduet.protocol.server_statistics import ServerStatistics
from mmduet.protocol.session_status import SessionList, SessionStatus
from mmduet.protocol.source_probe import SourceProbe
from mmduet.redaction import redact
from mmduet.text import shorten
from mmduet.video.network import Transport

ERRORS: Mapping[int, type[MmduetError]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    409: ConflictError,
    429: CapacityError,
    503: CapacityError,
}
SESSIONS = "/sessions"
ModelT = TypeVar("ModelT", bound=BaseModel)


class SessionsClient:
    """The sessions of one key at a server. Use it as a context manager, or call ``close``.

    ``url`` is the server's address as for ``RemoteSession``. Every method raises ``AuthError`` for a wrong key,
    ``NotFoundError`` for a session that this key does not have, ``ConflictError`` if the session's state does not allow the
    request, ``RateLimitError`` at a limit of the key, ``CapacityError`` if the server or the session has no room, and
    ``ServerError`` for anything else.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 30.0) -> None:
        self._base_url = http_url(url)
        self._name = redact(self._base_url)  # for messages
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(timeout=timeout_seconds, headers=headers)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close the connections. The sessions continue."""
        self._client.close()

    def create(
        self,
        source: str,
        *,
        query: str | None = None,
        transport: Transport = "tcp",
        speed: float | None = None,
        paused: bool = False,
        duet: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Session:
        """Open a session on a source that the server reads. With ``paused``, the source is paused until ``resume``.

        A file is read as fast as its frames are scored, or at ``speed`` times real time. ``duet`` and ``fields`` are settings
        as in ``RemoteSession.update``.
        """
        body = {"source": source, "query": query, "transport": transport, "paused": paused}
        pace = {} if speed is None else {"speed": speed}
        return self._request("POST", SESSIONS, Session, {**body, **pace, "session": _settings(duet, fields)})

    def list_sessions(self) -> tuple[SessionStatus, ...]:
        """Return the sessions, newest first, without their resume tokens."""
        return self._request("GET", SESSIONS, SessionList).data

    def show(self, session_id: str) -> SessionStatus:
        """Return the state of a session."""
        return self._request("GET", _path(session_id), SessionStatus)

    def update(self, session_id: str, *, duet: Mapping[str, Any] | None = None, **fields: Any) -> SessionStatus:
        """Change settings, as ``RemoteSession.update`` does."""
        return self._request("PATCH", _path(session_id), SessionStatus, _settings(duet, fields))

    def ask(self, session_id: str, query: str) -> Item:
        """Ask a query, which the model reads before the next frame."""
        return self._request("POST", _path(session_id, "queries"), Item, {"query": query})

    def speak_now(self, session_id: str) -> None:
        """Request a reply regardless of the speak policy."""
        self._send("POST", _path(session_id, "responses"), {})

    def pause(self, session_id: str) -> SessionStatus:
        """Stop taking frames from the source: a file is not read, and frames of a live source are dropped."""
        return self._request("POST", _path(session_id, "pause"), SessionStatus)

    def resume(self, session_id: str) -> SessionStatus:
        """Continue with the source after a pause."""
        return self._request("POST", _path(session_id, "resume"), SessionStatus)

    def delete(self, session_id: str) -> None:
        """Close a session. Closing a session that is closed has no effect."""
        self._send("DELETE", _path(session_id))

    def test_source(self, url: str, *, transport: Transport = "tcp") -> SourceProbe:
        """Let the server open a source, read one frame and close it. Raises ``ServerError`` with the reason if it cannot."""
        return self._request("POST", "/sources/test", SourceProbe, {"url": url, "transport": transport})

    def stats(self) -> ServerStatistics:
        """Return the load of the server over the last ten seconds."""
        return self._request("GET", "/stats", ServerStatistics)

    def _request(self, method: str, path: str, model: type[ModelT], body: Mapping[str, Any] | None = None) -> ModelT:
        response = self._send(method, path, body)
        try:
            return model.model_validate_json(response.content)
        except ValidationError:
            raise ServerError(f"{self._name} answered with something else; is it an mmduet server?") from None

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Response:
        url = f"{self._base_url}{path}"
        try:
            response = self._client.request(method, url, json=body)
        except httpx2.HTTPError as error:
            reason = shorten(str(error)) or type(error).__name__
            raise ServerError(f"{self._name} cannot be reached ({reason}); is a server running there?") from None
        if not response.is_success:
            raise _to_error(self._name, response)
        return response


def _settings(duet: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "realtime", **fields, **({"duet": duet} if duet is not None else {})}


def _path(session_id: str, action: str = "") -> str:
    return f"{SESSIONS}/{quote(session_id, safe='')}" + (f"/{action}" if action else "")


def _to_error(name: str, response: httpx2.Response) -> MmduetError:
    """Return the error that a response reports."""
    status = response.status_code
    try:
        details = response.json()["error"]
        message, code = str(details["message"]), str(details["code"])
    except (ValueError, LookupError, TypeError):
        message, code = f"status {status} {response.reason_phrase}", ""
    if code == RateLimitError.code:
        return RateLimitError(f"{name}: {message}", float(response.headers.get("retry-after", 2)))
    error = ERRORS.get(status, ServerError)(f"{name}: {message}")
    if code and status not in ERRORS:
        error.code = code
    return error
