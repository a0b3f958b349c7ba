"""Memory for sessions: what is promised is set aside, so that a session that was admitted can never run out."""

from __future__ import annotations

from collections import Counter

from mmduet.errors import CapacityError


class Budget:
    """``total`` bytes for sessions of usually ``each`` bytes; at most ``wanted`` sessions, ``per_owner`` of one owner.

    Raises ``CapacityError`` where there is no room for a single one.
    """

    def __init__(self, total: int, each: int, wanted: int | None = None, per_owner: int | None = None) -> None:
        if total < each:
            raise CapacityError(
                f"{total} bytes are set aside for sessions and one takes {each}; give kv_memory_mb more, or a smaller model"
            )
        self.total, self._each, self._wanted, self._per_owner = total, each, wanted, per_owner
        self._held: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    @property
    def used(self) -> int:
        """Bytes set aside."""
        return sum(self._held.values())

    @property
    def most(self) -> int:
        """Sessions of the usual size that there is room for in all."""
        fitting = self.total // self._each
        return fitting if self._wanted is None else min(fitting, self._wanted)

    @property
    def free(self) -> int:
        """Sessions of the usual size that there is room for now."""
        fitting = max(self.total - self.used, 0) // self._each
        return fitting if self._wanted is None else min(fitting, max(self._wanted - len(self._held), 0))

    def reserve(self, session: str, size: int, owner: str) -> None:
        """Set ``size`` bytes aside for a session, in place of what it held. Raises ``CapacityError``, and changes nothing."""
        if session not in self._held:
            self._refuse_too_many(owner)
        free = self.total - self.used + self._held.get(session, 0)
        if size > free:
            raise CapacityError(
                f"a session of this size takes {size} bytes, {max(free, 0)} are free; try again later, or with a smaller window"
            )
        self._held[session], self._owners[session] = size, owner

    def release(self, session: str) -> None:
        """Give back what a session held."""
        self._held.pop(session, None)
        self._owners.pop(session, None)

    def _refuse_too_many(self, owner: str) -> None:
        if self._wanted is not None and len(self._held) >= self._wanted:
            raise CapacityError(f"all {self._wanted} sessions are taken; try again later")
        if self._per_owner is not None and Counter(self._owners.values())[owner] >= self._per_owner:
            raise CapacityError(f"all {self._per_owner} sessions of this key are taken; close one, or try again later")
