"""Clients of a server, which reconnect and resume on their own, and of OpenAI-compatible endpoints; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmduet.client.connection_status import ConnectionStatus

if TYPE_CHECKING:
    from mmduet.client.admission_wait import QueueStatus
    from mmduet.client.blocking import RemoteStream
    from mmduet.client.session import RemoteSession
    from mmduet.client.sessions import SessionsClient

__all__ = ["ConnectionStatus", "QueueStatus", "RemoteSession", "RemoteStream", "SessionsClient"]


def __getattr__(name: str) -> object:
    """Import the clients on first use: they need the optional package websockets, which other modules here do not."""
    if name == "QueueStatus":
        from mmduet.client.admission_wait import QueueStatus

        return QueueStatus
    if name == "RemoteStream":
        from mmduet.client.blocking import RemoteStream

        return RemoteStream
    if name == "RemoteSession":
        from mmduet.client.session import RemoteSession

        return RemoteSession
    if name == "SessionsClient":
        from mmduet.client.sessions import SessionsClient

        return SessionsClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
