"""What a client receives that waits for a session: its place in the queue, and the error if it gets no session."""

from __future__ import annotations

from typing import Literal

from mmduet.protocol.wire import ServerEvent

MAX_WAIT_SECONDS = 3600.0
"""Longest ``wait`` of a URL."""
WAIT_EXPIRED = "capacity"
"""Code of the ``error`` for a client that has got no session within the ``wait`` of its URL."""


class SessionQueued(ServerEvent):
    """The client waits for a session, because its URL has ``wait=SECONDS`` and the server is full or its key at its limit.

    ``position`` counts the clients that may get a session before this one, itself included: 1 is the next.
    ``estimated_wait_s`` follows from how often sessions have ended recently. It is null until that is known, and while the wait
    depends on the key's own sessions. The event is sent when one of them changes, at most once per second, until
    ``session.created``. It is not an event of the session: its ``event_id`` is that of number 0.
    """

    type: Literal["session.queued"] = "session.queued"
    position: int
    estimated_wait_s: float | None
