"""Memory for sessions: what is promised is set aside, so that a session that was admitted can never run out."""

from __future__ import annotations

from collections import Counter

from mmduet.errors import CapacityError


class Budget:
    """``total`` bytes, ``most`` sessions at once, ``per_owner`` of one owner."""

    def __init__(self, total: int, most: int, per_owner: int | None = None) -> None:
        self.total, self.most, self.per_owner = total, most, per_owner
        self._held: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    @property
    def used(self) -> int:
        """Bytes set aside."""
        return sum(self._held.values())

    @property
    def sessions(self) -> int:
        """Sessions that hold some of it."""
        return len(self._held)

    def reserve(self, session: str, size: int, owner: str) -> None:
        """Set ``size`` bytes aside for a session, in place of what it held. Raises ``CapacityError``, and changes nothing."""
        free = self.total - self.used + self._held.get(session, 0)
        if size > free:
            raise CapacityError(
                f"a session of this size takes {size} bytes, {max(free, 0)} are free; try again later, or with a smaller window"
            )
        if session not in self._held:
            if len(self._held) >= self.most:
                raise CapacityError(f"all {self.most} sessions are taken; try again later")
            if self.per_owner is not None and Counter(self._owners.values())[owner] >= self.per_owner:
                raise CapacityError(
                    f"all {self.per_owner} sessions of this key are taken; close one, or try again later"
                )
        self._held[session], self._owners[session] = size, owner

    def release(self, session: str) -> None:
        """Give back what a session held."""
        self._held.pop(session, None)
        self._owners.pop(session, None)


def most_sessions(total: int, each: int, wanted: int | None) -> int:
    """How many sessions of ``each`` bytes fit into ``total``, at most ``wanted``. Raises ``CapacityError`` if none does."""
    fitting = total // each
    if fitting < 1:
        raise CapacityError(
            f"{total} bytes are set aside for sessions and one takes {each}; give kv_memory_mb more, or a smaller model"
        )
    return fitting if wanted is None else min(fitting, wanted)
