"""Reserves KV memory for sessions at admission, so that an admitted session can never run out."""

from __future__ import annotations

from collections.abc import Callable

from mmduet.errors import CapacityError, RateLimitError
from mmduet.server.client_secrets import account_of


class KVBudget:
    """Account for KV memory and session counts.

    ``bytes_per_session`` is the size of a session with default settings. A session may reserve more or less than that.
    Raises ``CapacityError`` if ``total_bytes`` does not hold a single default session.

    Attributes:
        on_release: Called after a reservation has been released.
    """

    def __init__(
        self,
        total_bytes: int,
        bytes_per_session: int,
        session_limit: int | None = None,
        key_limit: int | None = None,
        secret_limit: int | None = None,
    ) -> None:
        """Limit the number of sessions to ``session_limit``; None means no limit.

        ``key_limit`` bounds those of an API key together with its client secrets, ``secret_limit`` those of one secret.
        """
        if total_bytes < bytes_per_session:
            raise CapacityError(
                f"the KV budget is {total_bytes} bytes and one session needs {bytes_per_session}; "
                "raise kv_memory_mb or use a smaller model"
            )
        self.total_bytes = total_bytes
        self._bytes_per_session = bytes_per_session
        self.key_limit = key_limit
        self._session_limit, self._secret_limit = session_limit, secret_limit
        self._reserved_bytes: dict[str, int] = {}
        self._owners: dict[str, str] = {}
        self.on_release: Callable[[], None] = lambda: None

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

    def count_sessions(self, key: str) -> int:
        """Return the number of sessions of a key, given by its id, and of its client secrets."""
        return sum(account_of(owner) == key for owner in self._owners.values())

    def reserve(self, session_id: str, size_bytes: int, owner: str, *, restored: bool = False) -> None:
        """Reserve ``size_bytes`` for a session, replacing its previous reservation.

        The limits of keys do not apply to a ``restored`` session, which has been admitted before.
        Raises ``CapacityError``, or ``RateLimitError`` at the limit of a key or client secret, and then changes nothing.
        """
        if session_id not in self._reserved_bytes:
            self._check_session_count()
            if not restored and (error := self._owner_error(owner)) is not None:
                raise error
        free_bytes = self.total_bytes - self.used_bytes + self._reserved_bytes.get(session_id, 0)
        if size_bytes > free_bytes:
            raise CapacityError(
                f"a session of this size needs {size_bytes} bytes and {max(free_bytes, 0)} are free; "
                "try again later or use a smaller window"
            )
        self._reserved_bytes[session_id], self._owners[session_id] = size_bytes, owner

    def release(self, session_id: str) -> None:
        """Release a session's reservation; do nothing if it has none."""
        if self._reserved_bytes.pop(session_id, None) is not None:
            del self._owners[session_id]
            self.on_release()

    def is_at_limit(self, owner: str) -> bool:
        """Return whether the key or client secret may open no further session, regardless of those of others."""
        return self._owner_error(owner) is not None

    def _check_session_count(self) -> None:
        if self._session_limit is not None and len(self._reserved_bytes) >= self._session_limit:
            raise CapacityError(f"all {self._session_limit} sessions are in use; try again later")

    def _owner_error(self, owner: str) -> RateLimitError | None:
        """Return the error of another session of this owner; None if it may open one."""
        key = account_of(owner)
        if self.key_limit is not None and self.count_sessions(key) >= self.key_limit:
            return _limit_error(self.key_limit, "key")
        used = sum(known == owner for known in self._owners.values())
        if self._secret_limit is not None and owner != key and used >= self._secret_limit:
            return _limit_error(self._secret_limit, "client secret")
        return None


def _limit_error(limit: int, credential: str) -> RateLimitError:
    return RateLimitError(f"all {limit} sessions of this {credential} are in use; close one or try again later")
