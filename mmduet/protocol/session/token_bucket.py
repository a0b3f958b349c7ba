"""Token bucket, the usual rate limiter: a credit that grows at a fixed rate up to a maximum and is spent by what happens."""

from __future__ import annotations


class TokenBucket:
    """Credit that grows by ``rate`` per second up to ``capacity`` and starts full.

    ``now`` is the time in seconds on any clock; a clock that steps back adds nothing. Between two times ``take`` grants at most
    ``rate`` times the seconds between them plus ``capacity``.
    """

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate, self.capacity = rate, capacity
        self._credit, self._updated_at = capacity, -float("inf")

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Spend ``amount`` if the credit suffices, and return whether it did."""
        if self.available(now) < amount:
            return False
        self._credit -= amount
        return True

    def reserve(self, now: float, amount: float) -> float:
        """Spend ``amount`` even if the credit becomes negative, and return the seconds until it is zero again.

        A caller that waits so long before it spends more keeps to the rate, even if others spend meanwhile.
        """
        self._credit = self.available(now) - amount
        return max(-self._credit / self.rate, 0.0)

    def available(self, now: float) -> float:
        """Return the credit; negative if more was reserved."""
        if now > self._updated_at:
            self._credit = min(self._credit + (now - self._updated_at) * self.rate, self.capacity)
            self._updated_at = now
        return self._credit

    def seconds_until(self, now: float, amount: float) -> float:
        """Return the seconds until ``amount``, at most the capacity, can be taken; 0 if it can be taken now."""
        return max((amount - self.available(now)) / self.rate, 0.0)
