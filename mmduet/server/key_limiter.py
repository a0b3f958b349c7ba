"""Enforces the limits of API keys over all sessions and requests of a key: frames, bytes and tokens per second, sources."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import get_args

from mmduet.errors import RateLimitError
from mmduet.protocol.limits import KeyLimits, LimitName, RateLimit
from mmduet.protocol.server_events import RateLimitsUpdated
from mmduet.protocol.session.token_bucket import TokenBucket
from mmduet.server.client_secrets import account_of

RATE_LIMIT_HEADERS = tuple(
    f"x-ratelimit-{value}-{name}" for name in get_args(LimitName) for value in ("limit", "remaining", "reset")
)
REPORT_INTERVAL_SECONDS = 1.0
MIN_CLEANUP_SIZE = 64
"""Number of limiters from which on those that are no longer needed are removed."""


class KeyLimiter:
    """Counts what one key uses. ``take_token`` may be called by any thread, the others run in the event loop.

    Args:
        limits: The limits.
        count_sessions: Returns the number of the key's sessions, which are limited where their memory is reserved.
        on_limited: Called with the name of a limit whenever it takes effect.
        clock: Returns the time in seconds.
        frames_per_visitor: Frames per second of one client secret of the key; None for no limit.

    Attributes:
        limited_count: How often a rate has taken effect.
    """

    def __init__(
        self,
        limits: KeyLimits,
        count_sessions: Callable[[], int] = lambda: 0,
        on_limited: Callable[[LimitName], None] = lambda name: None,
        clock: Callable[[], float] = monotonic,
        frames_per_visitor: float | None = None,
    ) -> None:
        self.limits, self.limited_count = limits, 0
        self._buckets = _create_buckets(limits)
        self._frames_per_visitor = frames_per_visitor
        self._visitor_buckets: dict[str, TokenBucket] = {}  # by owner
        self._visitor_cleanup_size = MIN_CLEANUP_SIZE
        self._lock = threading.Lock()  # of the buckets
        self._source_sessions: set[str] = set()
        self._count_sessions, self._on_limited, self._clock = count_sessions, on_limited, clock

    # Rates

    def take_frame(self, owner: str) -> bool:
        """Count a frame to be scored and return True; False: the rate of the key or of its visitor is exhausted."""
        if self._seconds_until_visitor(owner) > 0:
            self._report("frames")
            return False
        if not self._take("frames"):
            return False
        if (bucket := self._visitor_bucket(owner)) is not None:
            with self._lock:
                bucket.take(self._clock())
        return True

    async def wait_for_frame(self, owner: str) -> None:
        """Wait until ``take_frame`` returns True, for frames that the server reads at its own pace."""
        while (seconds := max(self._seconds_until("frames"), self._seconds_until_visitor(owner))) > 0:
            await asyncio.sleep(seconds)

    def _seconds_until_visitor(self, owner: str) -> float:
        bucket = self._visitor_bucket(owner)
        if bucket is None:
            return 0.0
        with self._lock:
            return bucket.seconds_until(self._clock(), 1.0)

    def _visitor_bucket(self, owner: str) -> TokenBucket | None:
        """Return the frames of the visitor that ``owner`` names; None if they are not limited."""
        if self._frames_per_visitor is None or account_of(owner) == owner:
            return None
        with self._lock:
            if owner not in self._visitor_buckets:
                self._remove_full_visitor_buckets()
                capacity = max(self._frames_per_visitor * self.limits.burst_s, 1.0)
                self._visitor_buckets[owner] = TokenBucket(self._frames_per_visitor, capacity)
            return self._visitor_buckets[owner]

    def _remove_full_visitor_buckets(self) -> None:
        """Forget visitors whose rate has recovered, once there are many."""
        if len(self._visitor_buckets) >= self._visitor_cleanup_size:
            now = self._clock()
            self._visitor_buckets = {
                owner: bucket
                for owner, bucket in self._visitor_buckets.items()
                if bucket.available(now) < bucket.capacity
            }
            self._visitor_cleanup_size = max(2 * len(self._visitor_buckets), MIN_CLEANUP_SIZE)

    def take_token(self) -> bool:
        """Count a generated token and return True; False: the rate is exhausted."""
        return self._take("tokens")

    def check_tokens(self) -> None:
        """Raise ``RateLimitError`` if the rate of tokens is exhausted."""
        if (seconds := self._seconds_until("tokens")) > 0:
            self._report("tokens")
            rate = self.limits.tokens_per_second
            raise RateLimitError(f"the key has used its {rate:g} tokens per second; try again later", seconds)

    def reading_delay(self, size: int) -> float:
        """Count ``size`` received bytes and return the seconds for which no more may be read."""
        bucket = self._buckets.get("bytes")
        if bucket is None:
            return 0.0
        with self._lock:
            seconds = bucket.reserve(self._clock(), size)
        if seconds > 0:
            self._report("bytes")
        return seconds

    def _take(self, name: LimitName) -> bool:
        bucket = self._buckets.get(name)
        if bucket is None:
            return True
        with self._lock:
            granted = bucket.take(self._clock())
        if not granted:
            self._report(name)
        return granted

    def _seconds_until(self, name: LimitName) -> float:
        bucket = self._buckets.get(name)
        if bucket is None:
            return 0.0
        with self._lock:
            return bucket.seconds_until(self._clock(), 1.0)

    def _report(self, name: LimitName) -> None:
        self.limited_count += 1
        self._on_limited(name)

    # Sources

    def check_source(self) -> None:
        """Raise ``RateLimitError`` if the key may not open one more source."""
        limit = self.limits.max_sources
        if limit is not None and len(self._source_sessions) >= limit:
            self._on_limited("sources")
            raise RateLimitError(f"all {limit} sources of this key are open; close one or try again later")

    def open_source(self, session_id: str) -> None:
        """Count the source of a session, which has at most one. Raises ``RateLimitError``."""
        if session_id not in self._source_sessions:
            self.check_source()
            self._source_sessions.add(session_id)

    def close_source(self, session_id: str) -> None:
        """Stop counting the source of a session; do nothing if it has none."""
        self._source_sessions.discard(session_id)

    # Reports

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is used, so that a new limiter would be the same."""
        with self._lock:
            now = self._clock()
            buckets = (*self._buckets.values(), *self._visitor_buckets.values())
            used = any(bucket.available(now) < bucket.capacity for bucket in buckets)
        return not (used or self._source_sessions or self._count_sessions())

    def state(self) -> tuple[RateLimit, ...]:
        """Return how much of each limit is left."""
        sessions, sources = self.limits.max_sessions, self.limits.max_sources
        state = []
        if sessions is not None:
            state.append(_count_left("sessions", sessions, self._count_sessions()))
        if sources is not None:
            state.append(_count_left("sources", sources, len(self._source_sessions)))
        with self._lock:
            now = self._clock()
            return (*state, *(_rate_left(name, bucket, now) for name, bucket in self._buckets.items()))

    def headers(self) -> dict[str, str]:
        """Return how much of each limit is left as headers of a response, with OpenAI's names."""
        headers = {}
        for limit in self.state():
            headers[f"x-ratelimit-limit-{limit.name}"] = str(limit.limit)
            headers[f"x-ratelimit-remaining-{limit.name}"] = str(limit.remaining)
            if limit.reset_seconds is not None:
                headers[f"x-ratelimit-reset-{limit.name}"] = format_duration(limit.reset_seconds)
        return headers


class KeyLimiters:
    """The limiters of all keys; ``count_sessions`` returns the number of sessions of a key with its client secrets.

    A limiter is kept until its rates have recovered, so that reconnecting does not reset them.
    """

    def __init__(
        self,
        limits: KeyLimits,
        count_sessions: Callable[[str], int],
        on_limited: Callable[[LimitName], None],
        clock: Callable[[], float] = monotonic,
        frames_per_visitor: float | None = None,
    ) -> None:
        self.limits, self._frames_per_visitor = limits, frames_per_visitor
        self._count_sessions, self._on_limited, self._clock = count_sessions, on_limited, clock
        self._limiters: dict[str, KeyLimiter] = {}
        self._cleanup_size = MIN_CLEANUP_SIZE

    def of(self, owner: str) -> KeyLimiter:
        """Return the limiter of the key behind ``owner``, which it shares with the client secrets of the key.

        Use it without waiting, or for a session.
        """
        key = account_of(owner)
        limiter = self._limiters.get(key)
        if limiter is None:
            if len(self._limiters) >= self._cleanup_size:
                self._remove_idle()
            limiter = KeyLimiter(
                self.limits,
                lambda: self._count_sessions(key),
                self._on_limited,
                self._clock,
                self._frames_per_visitor,
            )
            self._limiters[key] = limiter
        return limiter

    def _remove_idle(self) -> None:
        self._limiters = {key: limiter for key, limiter in self._limiters.items() if not limiter.is_idle}
        self._cleanup_size = max(2 * len(self._limiters), MIN_CLEANUP_SIZE)


class LimitReporter:
    """Decides when a session sends ``rate_limits.updated``: for its replies, and when a rate of its key takes effect."""

    def __init__(self, limiter: KeyLimiter, clock: Callable[[], float] = monotonic) -> None:
        self._limiter, self._clock = limiter, clock
        self._reported_count, self._reported_at = limiter.limited_count, -float("inf")

    def next_event(self, *, for_reply: bool) -> RateLimitsUpdated | None:
        """Return the event to send now, or None; other than for replies at most one per second."""
        if not for_reply and (
            self._limiter.limited_count == self._reported_count
            or self._clock() < self._reported_at + REPORT_INTERVAL_SECONDS
        ):
            return None
        self._reported_count, self._reported_at = self._limiter.limited_count, self._clock()
        state = self._limiter.state()
        return RateLimitsUpdated(rate_limits=state) if state else None


def format_duration(seconds: float) -> str:
    """Return a duration as OpenAI's headers have it: ``20ms``, ``1.5s`` or ``6m0s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:g}s"


def _create_buckets(limits: KeyLimits) -> dict[LimitName, TokenBucket]:
    rates: dict[LimitName, float | None] = {
        "frames": limits.frames_per_second,
        "bytes": limits.bytes_per_second,
        "tokens": limits.tokens_per_second,
    }
    return {
        name: TokenBucket(rate, max(rate * limits.burst_s, 1.0)) for name, rate in rates.items() if rate is not None
    }


def _count_left(name: LimitName, limit: int, used: int) -> RateLimit:
    return RateLimit(name=name, limit=limit, remaining=max(limit - used, 0), reset_seconds=None)


def _rate_left(name: LimitName, bucket: TokenBucket, now: float) -> RateLimit:
    left, reset_seconds = max(int(bucket.available(now)), 0), bucket.seconds_until(now, bucket.capacity)
    return RateLimit(name=name, limit=int(bucket.capacity), remaining=left, reset_seconds=round(reset_seconds, 3))
