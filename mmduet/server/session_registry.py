"""Finds the sessions of a server by id, token and owner, also those that have ended."""

from __future__ import annotations

import hmac
from time import monotonic

from mmduet.server.client_secrets import account_of
from mmduet.server.live_session import LiveSession
from mmduet.server.request_context import add_request_fields

MAX_FORGOTTEN_SESSIONS = 10_000


class SessionRegistry:
    """The sessions by id.

    Attributes:
        active: Sessions that use the engine.
        ended: Sessions that are kept for clients that have not read the last events.
    """

    def __init__(self) -> None:
        self.active: dict[str, LiveSession] = {}
        self.ended: dict[str, LiveSession] = {}
        self._forgotten: dict[str, str] = {}  # owners of sessions that cannot be found any more, oldest first

    def _find(self, session_id: str) -> LiveSession | None:
        return self.active.get(session_id) or self.ended.get(session_id)

    def find_by_token(self, session_id: str, token: str, owner: str) -> LiveSession | None:
        """Return the session if the token matches and owner and session have the same account, else None.

        A new client secret of the same key may so continue the session of an expired one. None does not reveal whether the
        session exists.
        """
        session = self._find(session_id)
        expected = session.token if session is not None else "no such token"
        token_matches = hmac.compare_digest(token.encode(), expected.encode())
        if session is None or not token_matches or session.finished:
            return None
        return session if account_of(session.owner) == account_of(owner) else None

    def find_by_owner(self, session_id: str, owner: str) -> LiveSession | None:
        """Return a session that this owner opened, else None."""
        session = self._find(session_id)
        if session is None or session.owner != owner or session.finished:
            return None
        add_request_fields(session=session.id)
        return session

    def sessions_of(self, owner: str) -> list[LiveSession]:
        """Return the sessions of this owner that can be found by id, newest first."""
        sessions = reversed([*self.ended.values(), *self.active.values()])
        found = [session for session in sessions if session.owner == owner and not session.finished]
        return sorted(found, key=lambda session: session.activity.created_at, reverse=True)

    def delete(self, session_id: str, owner: str) -> bool:
        """Close a session of this owner, or do nothing if it is closed. Return False if it never existed."""
        session = self._find(session_id)
        if (session.owner if session is not None else self._forgotten.get(session_id)) != owner:
            return False
        add_request_fields(session=session_id)
        if session is not None and not session.finished:
            session.finished = True
            session.close("ended")
        return True

    def move_to_ended(self, session: LiveSession) -> bool:
        """Keep a session that does not use the engine any more; return False if it was not active."""
        if self.active.pop(session.id, None) is None:
            return False
        session.detached_at = monotonic()
        self.ended[session.id] = session
        return True

    def forget(self, session: LiveSession) -> None:
        """Keep nothing of an ended session but its owner, for repeated deletions."""
        del self.ended[session.id]
        session.discard_journal()
        self._forgotten[session.id] = session.owner
        if len(self._forgotten) > MAX_FORGOTTEN_SESSIONS:
            del self._forgotten[next(iter(self._forgotten))]
