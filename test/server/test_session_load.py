"""What a step costs and what a session offers, from measurements."""

from __future__ import annotations

import random

import pytest

from mmduet.engine import Engine
from mmduet.engine.warm_up import warm_up
from mmduet.model import load_model
from mmduet.server.session_load import SessionLoad
from mmduet.server.step_cost import StepCostEstimator


def test_the_cost_of_a_step_is_found_from_steps_of_different_sizes() -> None:
    estimator, noise = StepCostEstimator(), random.Random(0)
    assert estimator.estimate() is None
    for _ in range(400):
        frames = noise.choice((0, 1, 2, 5, 9, 30))
        estimator.on_step((0.01 + 0.002 * frames) * noise.uniform(0.8, 1.2), frames)
    cost = estimator.estimate()
    assert cost is not None
    assert cost.per_frame == pytest.approx(0.002, rel=0.15)
    assert cost.fixed == pytest.approx(0.01, rel=0.15)
    assert cost.single == cost.fixed + cost.per_frame


def test_steps_of_one_size_are_taken_as_cost_of_their_frames() -> None:
    estimator = StepCostEstimator()
    for _ in range(20):
        estimator.on_step(0.05, 1)
    cost = estimator.estimate()
    assert cost is not None
    assert (cost.fixed, cost.per_frame) == (0.0, pytest.approx(0.05))


def test_noise_does_not_make_frames_free() -> None:
    estimator = StepCostEstimator()
    for _ in range(10):
        estimator.on_step(0.02, 1)
        estimator.on_step(0.016, 8)
    cost = estimator.estimate()
    assert cost is not None
    assert cost.per_frame == pytest.approx(0.016 / 8 / 4)


def test_a_few_slow_steps_hardly_change_the_cost() -> None:
    estimator = StepCostEstimator()
    for frames in (1, 8) * 50:
        estimator.on_step(0.01 + 0.002 * frames, frames)
    for frames in (1, 8, 64):
        estimator.on_step(60.0, frames)
    for _ in range(8):
        estimator.on_step(0.012, 1)
    cost = estimator.estimate()
    assert cost is not None
    assert cost.per_frame == pytest.approx(0.002, rel=0.2)


def test_the_rate_of_a_session_is_expected_at_first_and_then_measured() -> None:
    load = SessionLoad(2.0, 1.0, opened_at=100.0)
    assert (load.rate(100.0), load.rate(100.0, typical=5.0), load.is_measured(100.0)) == (2.0, 5.0, False)
    for number in range(12):
        load.on_frame(100.0 + number / 4)
    assert load.is_measured(102.75)
    assert load.rate(102.75) == pytest.approx(4.0)
    assert load.rate(103.0) == pytest.approx(4.0)
    assert load.rate(110.0) == pytest.approx(11 / 9.75)  # it has stopped
    assert (load.is_idle(110.0), load.is_idle(113.0)) == (False, True)


def test_a_session_is_slow_if_the_engine_takes_long_for_its_frames() -> None:
    load, patient = SessionLoad(2.0, 1.0, 0.0), SessionLoad(2.0, None, 0.0)
    for number in range(20):
        load.on_scored(number, 0.2)
        patient.on_scored(number, 9.0)
    assert (load.is_slow, patient.is_slow) == (False, False)
    load.on_scored(20, 3.0)  # one pause
    assert load.is_slow
    for number in range(20):
        load.on_scored(number, 0.2)
    assert not load.is_slow


def test_a_session_that_sends_nothing_is_expected_to_send_less_and_less() -> None:
    load = SessionLoad(2.0, 1.0, opened_at=0.0)
    assert (load.rate(10.0), load.rate(20.0), load.rate(100.0)) == (2.0, 1.0, 0.2)


def test_the_warm_up_measures_steps_and_leaves_no_sessions() -> None:
    engine = Engine(load_model("random:tiny"))
    steps = warm_up(engine)
    assert {frames for _, frames in steps} <= {1, 8}
    assert all(seconds > 0 for seconds, _ in steps)
    assert not engine.busy
    assert engine.step() == []
