"""Bounds how many visitors of a public page one client address creates, because each of them has limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mmduet.errors import RateLimitError
from mmduet.protocol.session.token_bucket import TokenBucket

VISITORS_PER_SECOND, BURST = 0.1, 20.0
"""New visitors of one address. Those of an office or a school share an address, so a number of them may come at once."""
MAX_ADDRESSES = 4096
"""Addresses that are remembered; beyond it those that have recovered are forgotten, then all."""


class VisitorRate:
    """The rates of all addresses; the clock returns seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, address: str) -> None:
        """Count a new visitor. Raises ``RateLimitError`` if the address has created too many."""
        now = self._clock()
        if address not in self._buckets and len(self._buckets) >= MAX_ADDRESSES:
            self._forget_recovered(now)
        bucket = self._buckets.setdefault(address, TokenBucket(VISITORS_PER_SECOND, BURST))
        if not bucket.take(now):
            raise RateLimitError(
                "too many visitors have come from this network address; try again later", bucket.seconds_until(now, 1.0)
            )

    def _forget_recovered(self, now: float) -> None:
        used = {address: bucket for address, bucket in self._buckets.items() if bucket.available(now) < BURST}
        self._buckets = used if len(used) < MAX_ADDRESSES else {}
