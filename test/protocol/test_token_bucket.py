"""The token bucket: what it grants in any window is bounded by rate and capacity, and it refuses nothing else."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.protocol.session.token_bucket import TokenBucket

RATES = st.floats(0.01, 1000)
CAPACITIES = st.floats(1, 1000)
STEPS = st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 1)), min_size=1, max_size=40)
"""Pairs of the seconds since the step before and the amount, as a share of the capacity."""


def relative(amount: float) -> float:
    return 1e-6 * max(1.0, amount)


@given(RATES, CAPACITIES, STEPS)
def test_grants_are_bounded_in_every_window_and_maximal(rate, capacity, steps) -> None:
    bucket = TokenBucket(rate, capacity)
    times = list(accumulate(seconds for seconds, _ in steps))
    granted: list[tuple[float, float]] = []
    for now, (_, share) in zip(times, steps, strict=True):
        amount = share * capacity
        accepted = bucket.take(now, amount)
        granted.append((now, amount if accepted else 0.0))
        excess = max(
            sum(size for time, size in granted if time >= start) + (0.0 if accepted else amount) - rate * (now - start)
            for start in times
            if start <= now
        )
        if accepted:
            assert excess <= capacity + relative(capacity)
        else:
            assert excess > capacity - relative(capacity)


@given(RATES, CAPACITIES, STEPS)
def test_waiting_for_reservations_keeps_to_the_rate(rate, capacity, steps) -> None:
    bucket, now, total = TokenBucket(rate, capacity), 0.0, 0.0
    for pause, share in steps:
        assert total <= rate * now + capacity + relative(rate * now + capacity)
        amount = 3 * share * capacity
        now += pause + bucket.reserve(now + pause, amount)
        total += amount


@given(RATES, CAPACITIES, st.floats(0.01, 1))
def test_refused_amount_is_granted_after_the_stated_time(rate, capacity, share) -> None:
    bucket, amount = TokenBucket(rate, capacity), share * capacity
    bucket.reserve(0.0, 2 * capacity)
    seconds = bucket.seconds_until(0.0, amount)
    assert not bucket.take(0.99 * seconds, amount)
    assert bucket.take(seconds * (1 + 1e-9), amount)


def test_clock_that_steps_back_adds_nothing() -> None:
    bucket = TokenBucket(1.0, 2.0)
    assert bucket.take(100.0, 2.0)
    assert bucket.available(50.0) == 0.0
    assert bucket.available(100.5) == pytest.approx(0.5)
