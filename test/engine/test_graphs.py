"""Steps in static shapes produce what the packed forward does. Here each step is computed where CUDA would replay its graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from duet_rig import Rig, frames, lively_model, options, replies, scores
from reference_kernel import reference_kernel

from mmduet.engine import graphs
from mmduet.engine.forward import PackedForward
from mmduet.engine.graphs import GraphedForward
from mmduet.engine.static_step import StaticStep, StepShape
from mmduet.events import Output, Query

CONTEXT_UNIT = 64


class ComputedSteps:
    """Computes captured steps directly, and records their shapes."""

    def __init__(self) -> None:
        self.captured: list[StepShape] = []
        self.replayed: list[StepShape] = []

    def __call__(self, step: StaticStep) -> Callable[[], None]:
        self.captured.append(step.shape)

        def replay() -> None:
            self.replayed.append(step.shape)
            step.compute()

        return replay


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> ComputedSteps:
    monkeypatch.setattr(graphs, "CONTEXT_UNIT", CONTEXT_UNIT)
    monkeypatch.setattr(graphs, "SESSIONS", (1, 2, 4))
    return ComputedSteps()


def graphed_rig(computed: ComputedSteps) -> Rig:
    rig = Rig(lively_model())
    packed = rig.forward
    assert isinstance(packed, PackedForward)
    config = rig.model.config
    rig.forward = GraphedForward(packed, reference_kernel, config.frame_tokens, config.text.hidden_size, computed)
    return rig


def run(rig: Rig, count: int) -> list[list[Output]]:
    """Run sessions with different options and timelines together."""
    outputs: dict[int, list[Output]] = {}
    for number in range(count):
        window = (None, 4, 6)[number % 3]
        session = rig.open(options((0.5, 0.6, 2.0)[number % 3], window=window, keep=number % 2 == 1, tokens=4 + number))
        outputs[session.id] = []
        rig.push(session, Query(f"What {'?' * number}", 0.0))
        for frame in frames(9 + number, number):
            rig.push(session, frame)
        rig.end(session)
    while rig.busy:
        for session, output in rig.step():
            outputs[session.id].append(output)
    return list(outputs.values())


@pytest.mark.parametrize("count", [1, 3, 7])
def test_static_steps_equal_the_packed_forward(count: int, computed: ComputedSteps) -> None:
    for actual, expected in zip(run(graphed_rig(computed), count), run(Rig(lively_model()), count), strict=True):
        np.testing.assert_allclose(scores(actual), scores(expected), atol=1e-5, rtol=0)
        assert replies(actual) == replies(expected)
    assert {shape.queries for shape in computed.replayed} == {1, lively_model().config.frame_tokens}
    assert {shape.sessions for shape in computed.replayed} <= {1, 2, 4}
    assert max(shape.sessions for shape in computed.replayed) == {1: 1, 3: 2, 7: 4}[count]  # the others reply meanwhile
    assert all(shape.context % CONTEXT_UNIT == 0 for shape in computed.replayed)
    assert len(computed.captured) == len(set(computed.captured)) < len(computed.replayed)


def test_padding_does_not_change_the_slots_of_sessions(computed: ComputedSteps) -> None:
    rig = graphed_rig(computed)
    resting, active = rig.open(options()), [rig.open(options()) for _ in range(3)]
    for session in (resting, *active):
        rig.push(session, frames(1)[0])
    while rig.busy:
        rig.step()
    before = rig.held_values(resting).clone()
    for frame in frames(6, 1, first=1):
        for session in active:
            rig.push(session, frame)
        rig.step()
    assert computed.replayed[-1] == StepShape(4, rig.model.config.frame_tokens, CONTEXT_UNIT)
    assert torch.equal(rig.held_values(resting), before)


def test_long_contexts_are_computed_by_the_packed_forward(
    computed: ComputedSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_CONTEXT", CONTEXT_UNIT)
    rig = graphed_rig(computed)
    actual = rig.run_stream(options(), frames(40))
    assert computed.replayed[-1].context == CONTEXT_UNIT
    assert len(computed.replayed) < 15
    expected = Rig(lively_model()).run_stream(options(), frames(40))
    np.testing.assert_allclose(scores(actual), scores(expected), atol=1e-5, rtol=0)


def test_warm_up_captures_the_shapes_before_they_are_needed(computed: ComputedSteps) -> None:
    rig = graphed_rig(computed)
    forward = rig.forward
    assert isinstance(forward, GraphedForward)
    forward.warm_up(sessions=2, context=100)
    size = rig.model.config.frame_tokens
    expected = {StepShape(count, queries, 128) for count in (1, 2) for queries in (1, size)}
    assert set(computed.captured) == expected
    assert computed.replayed == []


def test_an_engine_captures_the_shapes_of_sessions_with_a_full_window(computed: ComputedSteps) -> None:
    rig = graphed_rig(computed)
    rig.capture_graphs(options(window=6, text_tokens=100))
    size = rig.model.config.frame_tokens
    assert set(computed.captured) == {StepShape(count, queries, 128) for count in (1, 2, 4) for queries in (1, size)}
    rig.capture_graphs(options(window=None))
    assert len(computed.captured) == 6
    Rig(lively_model()).capture_graphs(options(window=6))  # an engine without graphs


def test_shapes_that_cannot_be_captured_are_computed_by_the_packed_forward(computed: ComputedSteps) -> None:
    class Failing(ComputedSteps):
        def __call__(self, step: StaticStep) -> Callable[[], None]:
            super().__call__(step)
            raise RuntimeError("operation not permitted when stream is capturing")

    failing = Failing()
    for actual, expected in zip(run(graphed_rig(failing), 3), run(Rig(lively_model()), 3), strict=True):
        np.testing.assert_allclose(scores(actual), scores(expected), atol=1e-5, rtol=0)
        assert replies(actual) == replies(expected)
    assert len(failing.captured) == len(set(failing.captured)) > 0
