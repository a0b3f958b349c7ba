"""Reserves KV memory for sessions at admission, so that an admitted session can never run out."""

from __future__ import annotations

from collections import Counter

from mmduet.errors import CapacityError


class KVBudget:
    """Account for KV memory and session counts.

    ``bytes_per_session`` is the size of a session with default settings. A session may reserve more or less than that.
    ``owner_limit`` is the maximum number of sessions of one owner; None means no limit.
    Raises ``CapacityError`` if ``total_bytes`` does not hold a single default session.
    """

    def __init__(self, total_bytes: int, bytes_per_session: int, session_limit: int | None = None) -> None:
        """``session_limit`` bounds the number of sessions; None means no limit."""
        if total_bytes < bytes_per_session:
            raise CapacityError(
                f"the KV budget is {total_bytes} bytes and one session needs {bytes_per_session}; "
                "raise kv_memory_mb or use a smaller model"
            )
        self.total_bytes = total_bytes
        self.owner_limit: int | None = None
        self._bytes_per_session = bytes_per_session
        self._session_limit = session_limit
        self._reserved_bytes: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    @property
    def used_bytes(self) -> int:
        """Return the number of reserved bytes."""
        return sum(self._reserved_bytes.values())

    @property
    def max_sessions(self) -> int:
        """Return how many default-sized sessions fit in total."""
        fitting = self.total_bytes // self._bytes_per_session
        return fitting if self._session_limit is None else min(fitting, self._session_limit)

    @property
    def free_sessions(self) -> int:
        """Return how many more default-sized sessions fit now."""
        fitting = max(self.total_bytes - self.used_bytes, 0) // self._bytes_per_session
        if self._session_limit is None:
            return fitting
        return min(fitting, max(self._session_limit - len(self._reserved_bytes), 0))

    def reserve(self, session_id: str, size_bytes: int, owner: str) -> None:
        """Reserve ``size_bytes`` for a session, replacing its previous reservation.

        Raises ``CapacityError`` and changes nothing if the memory or the session limits do not allow it.
        """
        if session_id not in self._reserved_bytes:
            self._check_session_count(owner)
        free_bytes = self.total_bytes - self.used_bytes + self._reserved_bytes.get(session_id, 0)
        if size_bytes > free_bytes:
            raise CapacityError(
                f"a session of this size needs {size_bytes} bytes and {max(free_bytes, 0)} are free; "
                "try again later or use a smaller window"
            )
        self._reserved_bytes[session_id], self._owners[session_id] = size_bytes, owner

    def release(self, session_id: str) -> None:
        """Release a session's reservation; do nothing if it has none."""
        self._reserved_bytes.pop(session_id, None)
        self._owners.pop(session_id, None)

    def _check_session_count(self, owner: str) -> None:
        if self._session_limit is not None and len(self._reserved_bytes) >= self._session_limit:
            raise CapacityError(f"all {self._session_limit} sessions are in use; try again later")
        if self.owner_limit is not None and Counter(self._owners.values())[owner] >= self.owner_limit:
            raise CapacityError(f"all {self.owner_limit} sessions of this key are in use; close one or try again later")
