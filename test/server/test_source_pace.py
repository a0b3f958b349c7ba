"""The pace of a source: when frames are due at a speed, across pauses, changes of speed and delays."""

from __future__ import annotations

import asyncio

import pytest

from mmduet.server.source_pace import SourcePace


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started_pace(speed: float | None) -> tuple[SourcePace, Clock]:
    """Return the pace of a source whose first frame, at 0 s, was taken at 100 s."""
    clock = Clock()
    pace = SourcePace(clock)
    pace.set_speed(speed)
    assert pace.delay(0.0) == 0
    pace.on_frame(0.0)
    return pace, clock


def test_without_speed_every_frame_is_due() -> None:
    pace, _ = started_pace(None)
    assert pace.is_due(1000.0)


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_delays_do_not_add_up(speed: float) -> None:
    pace, clock = started_pace(speed)
    for number in range(1, 500):
        time = number / 4
        due_at = clock.now + (pace.delay(time) or 0.0)
        assert due_at == pytest.approx(max(100 + time / speed, clock.now))
        clock.now = due_at + (0.01, 0.2, 0.0, 0.4)[number % 4] / speed  # taken a little later
        pace.on_frame(time)


def test_a_change_of_speed_applies_from_the_position_reached() -> None:
    pace, clock = started_pace(1.0)
    clock.now += 2.0
    pace.set_speed(4.0)
    assert pace.delay(10.0) == pytest.approx(2.0)
    clock.now += 1.0
    pace.set_speed(0.5)
    assert pace.position == pytest.approx(6.0)
    assert pace.delay(10.0) == pytest.approx(8.0)


def test_a_pause_shifts_the_schedule() -> None:
    pace, clock = started_pace(1.0)
    clock.now += 2.0
    pace.paused = True
    clock.now += 50.0
    assert pace.delay(0.0) is None
    pace.set_speed(2.0)
    clock.now += 50.0
    pace.paused = False
    assert pace.position == pytest.approx(2.0)
    assert pace.delay(3.0) == pytest.approx(0.5)


def test_a_source_that_was_read_without_speed_continues_from_its_last_frame() -> None:
    pace, clock = started_pace(None)
    clock.now += 1.0
    pace.on_frame(60.0)
    clock.now += 5.0
    pace.set_speed(1.0)
    assert pace.delay(60.25) == pytest.approx(0.25)


def test_a_source_that_is_far_behind_slows_down_instead_of_catching_up() -> None:
    pace, clock = started_pace(1.0)
    clock.now += 30.0
    assert pace.is_due(0.25)
    pace.on_frame(0.25)
    assert pace.delay(0.5) == pytest.approx(0.25)


def test_a_source_opened_paused_starts_with_its_first_frame() -> None:
    clock = Clock()
    pace = SourcePace(clock)
    pace.paused = True
    pace.set_speed(1.0)
    clock.now += 9.0
    assert pace.delay(0.0) is None
    pace.paused = False
    assert pace.is_due(3.0)
    pace.on_frame(3.0)
    assert pace.delay(4.0) == pytest.approx(1.0)


def test_changes_take_effect_while_waiting() -> None:
    async def check() -> None:
        pace = SourcePace()
        pace.set_speed(1e-3)
        pace.on_frame(0.0)
        waiting = asyncio.create_task(pace.wait_until_due(100.0))
        await asyncio.sleep(0)
        pace.paused = True
        await asyncio.sleep(0)
        pace.set_speed(None)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        pace.paused = False
        async with asyncio.timeout(20):
            await waiting

    asyncio.run(check())
