"""Admission by load, with a simulated engine: who is admitted, when it stops, and when it starts again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_engine import MAX_AGE, Simulation

from mmduet.errors import CapacityError
from mmduet.server.admission import AdmissionControl

FIXED, PER_FRAME = 0.005, 0.02  # an engine for 50 frames per second


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def is_held(streams: int, fps: float) -> bool:
    """Return whether an engine without admission serves this number of streams."""
    engine = Simulation(FIXED, PER_FRAME, max_utilization=float("inf"))
    engine.offer(streams, fps)
    engine.run(4)
    engine.reset()
    engine.run(16)
    return not engine.outcome.dropped and engine.outcome.age(0.99) <= 1 / fps


@pytest.mark.parametrize(("fps", "interval"), [(2.0, 0.01), (4.0, 0.01), (4.0, 0.5), (8.0, 0.01)])
def test_those_admitted_are_served_in_time_and_are_nearly_as_many_as_possible(fps: float, interval: float) -> None:
    engine = Simulation(FIXED, PER_FRAME)
    offered = round(4 / PER_FRAME / fps)
    engine.offer(offered, fps, interval)
    engine.run(25 + offered * interval)
    engine.reset()
    engine.run(10)
    admitted = len(engine.sessions)
    assert len(engine.waiting_clients) == offered - admitted > 0
    assert engine.outcome.age(0.99) < 0.5 * MAX_AGE
    assert engine.outcome.dropped == 0
    most = next(
        streams for streams in range(offered, 0, -1) if streams <= 1.1 / PER_FRAME / fps and is_held(streams, fps)
    )
    assert admitted >= round(0.9 * most) - 1  # there is no tenth of a stream


def test_admission_stops_before_frames_are_late() -> None:
    engine = Simulation(FIXED, PER_FRAME)
    while engine.connect(4.0):
        engine.reset()
        engine.run(3)
    assert len(engine.sessions) > 5
    assert (engine.outcome.age(1.0) < 0.5 * MAX_AGE, engine.outcome.dropped) == (True, 0)


def test_sessions_are_admitted_again_after_others_have_left() -> None:
    engine = Simulation(FIXED, PER_FRAME)
    engine.offer(40, 4.0)
    engine.run(20)
    full = len(engine.sessions)
    assert not engine.connect(4.0)
    engine.disconnect(full // 2)
    engine.run(20)
    assert len(engine.sessions) >= full - 1
    engine.waiting_clients.clear()
    engine.disconnect(100)
    assert engine.connect(4.0)


def test_admission_does_not_flap_on_a_full_engine() -> None:
    engine = Simulation(FIXED, PER_FRAME, noise=0.3, seed=1)
    engine.offer(40, 4.0)
    engine.run(30)
    engine.waiting_clients.clear()
    states = []
    for _ in range(200):
        engine.run(0.1)
        states.append(engine.admission.free_sessions(4.0, MAX_AGE, 100) > 0)
    changes = sum(before != after for before, after in pairwise(states))
    assert changes <= 10  # in 20 seconds: closed for at least two seconds each time


def test_a_machine_that_slows_down_admits_no_more_until_it_recovers() -> None:
    engine = Simulation(FIXED, PER_FRAME)
    engine.offer(6, 4.0)
    engine.run(10)
    assert engine.connect(4.0)
    engine.per_frame = 0.2  # other programs need the processor
    engine.run(6)
    assert not engine.connect(4.0)
    engine.per_frame = PER_FRAME
    engine.run(40)
    assert engine.connect(4.0)


@pytest.mark.parametrize("pause", [3.0, 60.0])
def test_one_slow_step_closes_admission_for_seconds_only(pause: float) -> None:
    engine = Simulation(FIXED, PER_FRAME)
    engine.offer(4, 4.0)
    engine.run(10)
    engine.step(
        [session for session in engine.sessions.values() if session.waiting][:1] or _wait_for_frame(engine), pause
    )
    engine.run(5)
    assert engine.connect(4.0)


def _wait_for_frame(engine: Simulation) -> list:
    session = next(iter(engine.sessions.values()))
    session.waiting.append(engine.now)
    return [session]


def test_a_first_slow_step_does_not_close_admission() -> None:
    clock = Clock()
    admission = AdmissionControl(0.9, clock)
    admission.step_cost.on_step(30.0, 1)  # compiles
    load = admission.open("a", 2.0, MAX_AGE)
    for number in range(20):
        clock.now = number / 2
        load.on_frame(clock.now)
        admission.step_cost.on_step(0.01, 1)
        load.on_scored(clock.now, 0.01)
    admission.check(2.0, MAX_AGE)


def test_one_session_that_sends_too_much_does_not_close_admission_for_others() -> None:
    engine = Simulation(FIXED, PER_FRAME)
    assert engine.connect(1000.0)
    engine.run(6)
    for _ in range(4):
        assert engine.connect(4.0)
        engine.run(4)
    first, *others = engine.sessions.values()
    assert first.load.rate(engine.now) > 100
    assert first.dropped > 1000
    assert [session.dropped for session in others] == [0, 0, 0, 0]
    assert all(session.load.latency < 0.3 for session in others)


def admission_with(live: int, patient: int) -> AdmissionControl:
    """Return admission with measured sessions of both kinds."""
    clock = Clock()
    admission = AdmissionControl(0.9, clock)
    for frames in (1, 8) * 10:
        admission.step_cost.on_step(FIXED + PER_FRAME * frames, frames)
    loads = [admission.open(f"live {number}", 2.0, MAX_AGE) for number in range(live)]
    waiting = [admission.open(f"patient {number}", 2.0, None) for number in range(patient)]
    for number in range(40):
        clock.now = number / 4
        for load in (*loads, *waiting):
            load.on_frame(clock.now)
            load.on_frame(clock.now + 0.01) if load in waiting else None
    return admission


def test_clients_that_wait_for_the_server_are_limited_only_where_there_are_live_streams() -> None:
    admission_with(live=0, patient=50).check(2.0, None)
    admission_with(live=2, patient=1).check(2.0, None)
    with pytest.raises(CapacityError, match="a step takes about"):
        admission_with(live=2, patient=50).check(2.0, None)
    with pytest.raises(CapacityError, match=r"need \d+% of the engine"):
        admission_with(live=12, patient=0).check(2.0, MAX_AGE)


def test_a_session_that_reads_a_file_is_not_a_live_stream() -> None:
    clock = Clock()
    admission = AdmissionControl(0.9, clock)
    for frames in (1, 8) * 10:
        admission.step_cost.on_step(FIXED + PER_FRAME * frames, frames)
    load = admission.open("a", 2.0, MAX_AGE)
    load.reads_file = True
    for number in range(400):  # as fast as its frames are scored
        clock.now = number * (FIXED + PER_FRAME)
        load.on_frame(clock.now)
        load.on_scored(clock.now, 5.0)
    assert admission.utilization == 0
    admission.check(2.0, MAX_AGE)
    load.reads_file = False
    with pytest.raises(CapacityError):
        admission.check(20.0, MAX_AGE)


def test_free_sessions_are_those_that_would_be_admitted() -> None:
    engine = Simulation(FIXED, PER_FRAME)
    free = engine.admission.free_sessions(2.0, MAX_AGE, 1000)
    assert 0 < free < 1000
    for _ in range(free):
        assert engine.connect(2.0)
    assert engine.admission.free_sessions(2.0, MAX_AGE, 1000) == 0
    assert not engine.connect(2.0)
    assert Simulation(FIXED, PER_FRAME, float("inf")).admission.free_sessions(2.0, MAX_AGE, 1000) == 1000


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-4, 100), st.integers(0, 200)), max_size=40),
    st.floats(0.1, 240),
    st.none() | st.floats(0.01, 10),
    st.integers(0, 3),
)
def test_an_idle_engine_admits_whatever_its_steps_have_cost(
    steps: list[tuple[float, int]], fps: float, max_frame_age: float | None, idle: int
) -> None:
    clock = Clock()
    admission = AdmissionControl(0.9, clock)
    for seconds, frames in steps:
        admission.step_cost.on_step(seconds, frames)
    for number in range(idle):
        admission.open(str(number), fps, max_frame_age).on_scored(0.0, 5.0)
    clock.now = 11.0  # none of the sessions has sent anything
    admission.check(fps, max_frame_age)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 40), st.floats(0.0005, 0.05), st.integers(1, 60), st.floats(0.5, 20), st.floats(0.05, 0.95))
def test_utilization_is_the_offered_rate_times_the_cost_of_a_frame(
    relative_fixed: float, per_frame: float, streams: int, fps: float, limit: float
) -> None:
    clock = Clock()
    admission = AdmissionControl(limit, clock)
    for frames in (1, 16) * 10:
        admission.step_cost.on_step(per_frame * (relative_fixed + frames), frames)
    loads = [admission.open(str(number), 2.0, MAX_AGE) for number in range(streams)]
    for number in range(40):
        clock.now = number / fps
        for load in loads:
            load.on_frame(clock.now)
    is_live = fps * per_frame * (relative_fixed + 1) < 0.999
    if is_live and clock.now > 2:
        assert admission.utilization == pytest.approx(streams * fps * per_frame, rel=1e-3)
        if admission.utilization > limit:
            with pytest.raises(CapacityError):
                admission.check(fps, MAX_AGE)
