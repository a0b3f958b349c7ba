"""Logs the end of a session with what it did, derived from the events sent to its client."""

from __future__ import annotations

import logging
from typing import Any, get_args

from mmduet.protocol.server_events import DropReason, ResponseDone, ServerEvent, SessionClosed, SessionUpdated
from mmduet.server.log_events import SESSION_CLOSED
from mmduet.server.request_context import request_fields

log = logging.getLogger(__name__)


class SessionLog:
    """What is logged about one session at its end. ``key`` is the digest of its key, ``replies`` those so far."""

    def __init__(self, session_id: str, key: str, model: str, adapter: str | None, replies: int = 0) -> None:
        self._session_id, self._key, self._model, self._adapter = session_id, key, model, adapter
        self._client = request_fields().get("client")
        self._replies, self._tokens = replies, 0

    def on_event(self, event: ServerEvent) -> None:
        """Count an event; the last one is logged."""
        match event:
            case SessionUpdated(session=session):
                self._adapter = session.duet.adapter
            case ResponseDone(response=response):
                self._replies += 1
                self._tokens += response.usage.output_tokens if response.usage is not None else 0
            case SessionClosed():
                self._log_end(event)

    def _log_end(self, event: SessionClosed) -> None:
        counts = event.frames
        dropped: dict[str, Any] = {f"dropped_{reason}": counts.get(reason) or None for reason in get_args(DropReason)}
        SESSION_CLOSED.emit(
            log,
            session=self._session_id,
            key=self._key,
            client=self._client,
            model=self._model,
            adapter=self._adapter,
            reason=event.reason,
            duration_s=event.duration_s,
            frames_received=counts.get("received", 0),
            frames_scored=counts.get("scored", 0),
            replies=self._replies,
            tokens=self._tokens,
            **dropped,
        )
