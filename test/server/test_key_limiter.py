"""The limiter of a key with a clock of the test: shared rates, sources, reports, and how long it is remembered."""

from __future__ import annotations

import pytest

from mmduet.errors import RateLimitError
from mmduet.protocol.limits import KeyLimits
from mmduet.server.key_limiter import KeyLimiter, KeyLimiters, LimitReporter, format_duration


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock, **limits: float) -> KeyLimiter:
    return KeyLimiter(KeyLimits(burst_s=2.0, **limits), clock=clock)


def test_rates_are_exhausted_and_recover() -> None:
    clock = Clock()
    key = limiter(clock, frames_per_second=2.0, tokens_per_second=0.25)
    assert [key.take_frame("key-a") for _ in range(5)] == [True] * 4 + [False]
    assert [key.take_token(), key.take_token()] == [True, False]  # at least one, however low the rate
    with pytest.raises(RateLimitError, match=r"0\.25 tokens per second") as rejected:
        key.check_tokens()
    assert rejected.value.retry_after_seconds == pytest.approx(4.0)
    assert key.limited_count == 3
    clock.now += 4.0
    key.check_tokens()
    assert [key.take_frame("key-a"), key.take_token()] == [True, True]


def test_readers_of_one_key_wait_in_turn() -> None:
    key = limiter(Clock(), bytes_per_second=100.0)
    assert [key.reading_delay(150) for _ in range(4)] == pytest.approx([0.0, 1.0, 2.5, 4.0])


def test_unlimited_key_has_no_state_and_never_waits() -> None:
    key = limiter(Clock())
    assert all(key.take_frame("key-a") and key.take_token() for _ in range(1000))
    key.check_tokens()
    key.check_source()
    assert key.reading_delay(1 << 40) == 0.0
    assert (key.state(), key.headers(), key.limits.has_limits) == ((), {}, False)
    assert LimitReporter(key).next_event(for_reply=True) is None


def test_a_session_has_one_source() -> None:
    names: list[str] = []
    key = KeyLimiter(KeyLimits(max_sources=1), on_limited=names.append)
    key.open_source("one")
    key.open_source("one")
    with pytest.raises(RateLimitError, match="all 1 sources of this key are open"):
        key.open_source("two")
    key.close_source("two")
    key.close_source("one")
    key.open_source("two")
    assert names == ["sources"]


def test_headers_have_openai_form() -> None:
    clock = Clock()
    key = KeyLimiter(KeyLimits(max_sessions=3, tokens_per_second=0.5, burst_s=200.0), lambda: 1, clock=clock)
    for _ in range(50):
        key.take_token()
    assert key.headers() == {
        "x-ratelimit-limit-sessions": "3",
        "x-ratelimit-remaining-sessions": "2",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "1m40s",
    }
    assert [format_duration(seconds) for seconds in (0, 0.02, 1, 1.5, 360, 59.9999)] == [
        "0ms", "20ms", "1s", "1.5s", "6m0s", "1m0s",
    ]  # fmt: skip


def test_limits_are_reported_for_replies_and_once_a_second_when_they_take_effect() -> None:
    clock = Clock()
    key = limiter(clock, frames_per_second=0.5)
    reporter = LimitReporter(key, clock)
    assert reporter.next_event(for_reply=False) is None
    assert reporter.next_event(for_reply=True) is not None
    clock.now += 1.0
    key.take_frame("key-a")
    assert reporter.next_event(for_reply=False) is None
    key.take_frame("key-a")
    event = reporter.next_event(for_reply=False)
    assert event is not None
    assert [(limit.name, limit.limit, limit.remaining) for limit in event.rate_limits] == [("frames", 1, 0)]
    key.take_frame("key-a")
    assert reporter.next_event(for_reply=False) is None
    clock.now += 1.0
    assert reporter.next_event(for_reply=False) is not None


def test_client_secrets_share_the_limiter_of_their_key() -> None:
    limiters = KeyLimiters(KeyLimits(frames_per_second=1.0), lambda key: 0, lambda name: None)
    assert limiters.of("key-1.visitor") is limiters.of("key-1.other") is limiters.of("key-1")
    assert limiters.of("key-2.visitor") is not limiters.of("key-1")


def test_limiter_is_kept_until_its_key_has_recovered() -> None:
    clock, sessions = Clock(), {"busy": 1}
    limits = KeyLimits(frames_per_second=1.0, burst_s=100.0)
    limiters = KeyLimiters(limits, lambda owner: sessions.get(owner, 0), lambda name: None, clock)
    kept = {name: limiters.of(name) for name in ("used", "busy", "idle")}
    kept["used"].take_frame("key-a")
    for number in range(1000):
        limiters.of(f"visitor {number}")
    assert [limiters.of(name) is old for name, old in kept.items()] == [True, True, False]
    clock.now += 1.0
    for number in range(1000):
        limiters.of(f"another visitor {number}")
    assert limiters.of("used") is not kept["used"]


def test_frames_of_every_visitor_are_limited() -> None:
    clock = Clock()
    limiters = KeyLimiters(KeyLimits(burst_s=1.0), lambda key: 0, lambda name: None, clock, frames_per_visitor=2.0)
    key = limiters.of("key-a")
    assert [key.take_frame("key-a.one") for _ in range(3)] == [True, True, False]
    assert [key.take_frame("key-a.two") for _ in range(3)] == [True, True, False]
    assert all(key.take_frame("key-a") for _ in range(100)), "the key itself has no limit"
    clock.now += 0.5
    assert [key.take_frame("key-a.one") for _ in range(2)] == [True, False]
    assert not key.is_idle


def test_visitors_limit_and_the_limit_of_the_key_both_hold() -> None:
    clock = Clock()
    key = KeyLimiter(KeyLimits(burst_s=1.0, frames_per_second=3.0), clock=clock, frames_per_visitor=2.0)
    assert [key.take_frame("key-a.one") for _ in range(3)] == [True, True, False]
    assert [key.take_frame("key-a.two") for _ in range(2)] == [True, False]
