"""Bounds how many visitors of a public page one client address creates, because each of them has limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from time import monotonic

from mmduet.errors import RateLimitError
from mmduet.protocol.session.token_bucket import TokenBucket

VISITORS_PER_SECOND, BURST = 1 / 30, 4.0
"""New visitors of one address. The limits of client secrets bind an address only as far as it creates few of them."""
IPV6_PREFIX = 64
"""Bits of the network of one IPv6 subscriber, which can use every address in it."""
MAX_ADDRESSES = 4096
"""Addresses that are remembered; beyond it those that have recovered are forgotten, then all."""


class VisitorRate:
    """The rates of all addresses; the clock returns seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, address: str) -> None:
        """Count a new visitor. Raises ``RateLimitError`` if the address, or its IPv6 network, has created too many."""
        now, address = self._clock(), network_of(address)
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


def network_of(address: str) -> str:
    """Return the network of an IPv6 address, an IPv4 address as it is, and anything else unchanged."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), IPV6_PREFIX), strict=False))
