"""The wait before a step: never for few streams, bounded, and ended by enough ready streams."""

from __future__ import annotations

import pytest

from mmduet.engine.batching_wait import BatchingWait


def after_steps(rate: float, seconds: float, count: int = 200, **options: float) -> BatchingWait:
    """Return a wait that has recorded steps of ``seconds`` seconds which score all of ``rate`` frames per second."""
    wait, now, scored = BatchingWait(**options), 0.0, 0
    for _ in range(count):
        now += seconds
        frames = int(rate * now) - scored
        scored += frames
        wait.on_step(seconds, frames, now)
    return wait


def test_there_is_no_wait_before_anything_has_been_measured() -> None:
    assert BatchingWait().plan(1, 100) == (0.0, 0)


@pytest.mark.parametrize(("rate", "seconds"), [(2.0, 0.02), (30.0, 0.02), (10.0, 0.1)])
def test_few_frames_per_step_are_never_delayed(rate: float, seconds: float) -> None:
    assert after_steps(rate, seconds).plan(1, 100) == (0.0, 0)


def test_one_stream_is_never_delayed() -> None:
    """A single stream that is read from a file sends the next frame when one has been scored."""
    assert after_steps(500.0, 0.02).plan(1, 1) == (0.0, 0)


def test_wait_ends_with_the_frames_that_arrive_during_a_step() -> None:
    wait = after_steps(400.0, 0.02, max_share=0.25, max_seconds=0.01)
    seconds, target = wait.plan(3, 200)
    assert seconds == pytest.approx(0.005)
    assert target in (7, 8)
    assert wait.plan(8, 200) == (0.0, 0)
    assert wait.plan(0, 200) == (0.0, 0)
    assert wait.plan(3, 5)[1] == 5


def test_wait_is_bounded() -> None:
    assert after_steps(100.0, 0.2, max_share=0.5, max_seconds=0.01).plan(1, 50)[0] == 0.01


def test_rate_follows_the_load() -> None:
    """After a busy time the rate of frames falls within seconds, idle time included."""
    wait = after_steps(400.0, 0.02)
    now = 4.0
    for _ in range(8):
        now += 0.5
        wait.on_step(0.02, 1, now)
    assert wait.plan(1, 200) == (0.0, 0)
