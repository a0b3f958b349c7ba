"""The simulation of an engine against queues whose results are known, and the step times that it is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmduet.bench.capacity.load import StreamLoad
from mmduet.bench.capacity.measured_steps import MeasuredStep, StepSize, frame_tokens, read_steps
from mmduet.bench.capacity.prediction import (
    Prediction,
    SimulationOptions,
    find_max_streams,
    predict,
    utilization_bound,
)
from mmduet.bench.capacity.simulation import Outcome, Simulation
from mmduet.bench.capacity.step_time import AffineStepTime, fit_step_time, largest_error
from mmduet.errors import OptionError


def simulate(streams: int, load: StreamLoad, step_time: AffineStepTime, **options: object) -> Outcome:
    return Simulation(streams, load, step_time, **options).run()  # type: ignore[arg-type]


# queues with known results


def test_deterministic_queue_below_its_capacity_has_no_waits() -> None:
    """D/D/1 with utilisation 0.8: every frame is decided after exactly one step."""
    outcome = simulate(1, StreamLoad(fps=10), AffineStepTime(0.08), phases=[0.0], seconds=10)
    assert outcome.latencies == pytest.approx([0.08] * 80)
    assert outcome.busy / outcome.end == pytest.approx(0.8, abs=0.01)


def test_deterministic_queue_above_its_capacity_grows_linearly() -> None:
    """D/D/1 with intervals of 0.1 s and steps of 0.15 s: frame n waits n * 0.05 s."""
    outcome = simulate(1, StreamLoad(fps=10), AffineStepTime(0.15), phases=[0.0], seconds=10)
    assert outcome.latencies == pytest.approx([0.15 + 0.05 * number for number in range(20, 100)])


@pytest.mark.parametrize("utilization", [0.3, 0.6, 0.8])
def test_random_arrivals_wait_as_the_pollaczek_khinchine_formula_says(utilization: float) -> None:
    """M/D/1: the mean wait is u * s / (2 * (1 - u)) for steps of s seconds at utilisation u."""
    service = 0.05
    load = StreamLoad(fps=utilization / service, arrivals="poisson")
    outcome = simulate(1, load, AffineStepTime(service), seconds=3000, seed=1)
    wait = utilization * service / (2 * (1 - utilization))
    assert np.mean(outcome.latencies) - service == pytest.approx(wait, rel=0.08)
    assert outcome.busy / outcome.end == pytest.approx(utilization, rel=0.03)


def test_frames_that_arrive_together_share_one_step() -> None:
    step_time = AffineStepTime(0.01, per_stream=0.001, per_frame=0.002, per_token=0.0001)
    outcome = simulate(8, StreamLoad(fps=2, frame_tokens=10), step_time, phases=[0.5] * 8, seconds=10)
    expected = 0.01 + 8 * (0.001 + 0.002 + 10 * 0.0001)
    assert outcome.latencies == pytest.approx([expected] * 128)
    assert outcome.jobs == 8 * outcome.steps


@pytest.mark.parametrize("streams", [100, 160])
def test_steps_of_evenly_spread_streams_have_the_length_of_the_balance(streams: int) -> None:
    """A step of f + b * n seconds takes what has arrived in the step before, so its length is f / (1 - b * rate)."""
    fixed, per_stream, fps = 0.02, 0.0025, 2.0
    phases = [number / streams for number in range(streams)]
    outcome = simulate(streams, StreamLoad(fps=fps), AffineStepTime(fixed, per_stream), phases=phases, seconds=30)
    balance = fixed / (1 - per_stream * fps * streams)
    assert outcome.busy / outcome.steps == pytest.approx(balance, rel=0.1)
    assert np.mean(outcome.latencies) == pytest.approx(1.5 * balance, rel=0.1)
    assert max(outcome.latencies) <= 2 * balance * 1.15


def test_no_number_of_streams_above_the_utilization_bound_is_held() -> None:
    step_time, load = AffineStepTime(0.001, per_stream=0.004, per_token=1e-5), StreamLoad(fps=2, frame_tokens=50)
    bound = utilization_bound(load, step_time)
    assert bound == pytest.approx(1 / (2 * (0.004 + 50e-5)))
    options = SimulationOptions(seconds=60)
    search = find_max_streams(lambda streams: predict(streams, load, step_time, options), 0.5)
    assert 0.85 * bound < search[-1].streams <= bound
    assert search[-1].latency_p99 <= 0.5
    assert min(p.streams for p in search if p.latency_p99 > 0.5) == search[-1].streams + 1


def test_bound_counts_replies() -> None:
    load = StreamLoad(fps=2, frame_tokens=50, speak_rate=0.1, tokens_per_reply=11, header_tokens=5, overhead=0.003)
    step_time = AffineStepTime(0.5, per_stream=0.001, per_frame=0.002, per_token=0.0001)
    frame, reply = 0.001 + 0.002 + 50 * 0.0001 + 0.003, 0.0015 + 10 * 0.0011
    assert utilization_bound(load, step_time) == pytest.approx(1 / (2 * (frame + 0.1 * reply)))


def test_work_beside_the_engine_lengthens_steps() -> None:
    outcome = simulate(4, StreamLoad(fps=2, overhead=0.01), AffineStepTime(0.02), phases=[0.0] * 4, seconds=5)
    assert outcome.latencies == pytest.approx([0.06] * len(outcome.latencies))


# the engine's rules


def test_budget_of_tokens_serves_streams_in_turn() -> None:
    """Four frames of 10 tokens under a budget of 20: two steps of two streams each, and the turns alternate."""
    load, step_time = StreamLoad(fps=1, frame_tokens=10), AffineStepTime(0.6)
    outcome = simulate(4, load, step_time, phases=[0.0] * 4, seconds=10, max_step_tokens=20)
    assert outcome.jobs == 2 * outcome.steps
    alone = simulate(4, load, step_time, phases=[0.0] * 4, seconds=10, max_step_tokens=1)
    assert alone.jobs == alone.steps
    assert max(alone.latencies) - min(alone.latencies[-4:]) < 4 * 0.6  # no stream falls behind the others


def test_frames_wait_until_the_reply_has_ended() -> None:
    """Every frame leads to a reply of 3 steps; the first token comes one step after the decision."""
    load = StreamLoad(fps=1, speak_rate=1, tokens_per_reply=3)
    outcome = simulate(1, load, AffineStepTime(0.1), phases=[0.0], seconds=10)
    assert outcome.latencies == pytest.approx([0.1] * 8)
    assert outcome.first_tokens == pytest.approx([0.2] * 8)
    assert outcome.steps == 10 * 4
    busy = simulate(1, load, AffineStepTime(0.3), phases=[0.0], seconds=10)
    assert busy.latencies == pytest.approx([0.3 + 0.2 * number for number in range(2, 10)])


def test_tokens_of_replies_count_in_their_steps() -> None:
    load = StreamLoad(fps=1, frame_tokens=40, speak_rate=1, tokens_per_reply=2, header_tokens=5)
    outcome = simulate(1, load, AffineStepTime(0.0, per_token=0.001), phases=[0.0], seconds=5)
    assert outcome.busy / 5 == pytest.approx(0.040 + 0.005 + 0.001)


def test_jitter_delays_frames_by_less_than_its_share() -> None:
    load = StreamLoad(fps=10, jitter=0.5)
    times = list(load.arrival_times(0.25, 100, np.random.default_rng(0)))
    lateness = np.array(times) - (0.025 + 0.1 * np.arange(len(times)))
    assert len(times) == 1000
    assert lateness.min() >= 0
    assert 0.045 < lateness.max() < 0.05


def test_prediction_is_reproducible() -> None:
    step_time = AffineStepTime(0.01, per_stream=0.002, noise=(0.8, 1.0, 1.2))
    load, options = StreamLoad(speak_rate=0.05, jitter=0.2), SimulationOptions(seconds=20, seed=3)
    assert predict(20, load, step_time, options) == predict(20, load, step_time, options)
    assert predict(20, load, step_time, options) != predict(20, load, step_time, SimulationOptions(seconds=20, seed=4))


def prediction(streams: int, p99: float) -> Prediction:
    return Prediction(streams, 1, p99, p99, p99, p99, p99, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("limit", [1, 2, 37, 64, 1000])
def test_search_finds_the_largest_number(limit: int) -> None:
    search = find_max_streams(lambda streams: prediction(streams, 0.1 if streams <= limit else 9.0), 0.5)
    assert search[-1].streams == limit
    assert len(search) < 25


def test_search_returns_one_stream_that_is_not_held() -> None:
    (only,) = find_max_streams(lambda streams: prediction(streams, 9.0), 0.5)
    assert only.streams == 1


# measured steps


def measured(model: AffineStepTime, counts: list[int], noise: float = 0.0) -> list[MeasuredStep]:
    """Return steps of frames, and of tokens, as the model takes for them."""
    random = np.random.default_rng(0)
    sizes = [StepSize(n, n, 49 * n) for n in counts] + [StepSize(n, 0, n) for n in counts]
    sizes += [StepSize(n, n // 2, 49 * (n // 2) + n - n // 2) for n in counts if n > 1]
    return [MeasuredStep(size, model.mean(size) * random.lognormal(0, noise)) for size in sizes for _ in range(20)]


def test_fit_recovers_the_cost_of_steps() -> None:
    truth = AffineStepTime(0.002, 0.0003, 0.0005, 0.00002)
    steps = measured(truth, [1, 4, 16, 64])
    model = fit_step_time(steps)
    for size in (StepSize(32, 32, 32 * 49), StepSize(100, 0, 100), StepSize(10, 3, 3 * 49 + 7)):
        assert model.mean(size) == pytest.approx(truth.mean(size), rel=1e-6)
    assert abs(largest_error(model, steps)[0]) < 1e-6


def test_fit_has_no_negative_terms() -> None:
    """Steps that become cheaper per stream would give a negative slope or fixed time without the restriction."""
    steps = [MeasuredStep(StepSize(n, n, 49 * n), 0.001 * n**1.5) for n in (1, 4, 16, 64)]
    model = fit_step_time(steps)
    assert min(model.fixed, model.per_stream, model.per_frame, model.per_token) >= 0
    assert abs(largest_error(model, steps)[0]) > 0.1  # which the report shows


def test_simulated_steps_have_the_noise_of_the_measured_ones() -> None:
    steps = measured(AffineStepTime(0.01, 0.001), [1, 8, 32], noise=0.3)
    model, random = fit_step_time(steps), np.random.default_rng(1)
    size = StepSize(8, 8, 8 * 49)
    drawn = [model.draw(size, random) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(model.mean(size), rel=0.05)
    assert np.std(drawn) / np.mean(drawn) == pytest.approx(0.3, rel=0.25)
    assert fit_step_time(steps, with_noise=False).draw(size, random) == model.mean(size)


def test_steps_are_read_from_a_report_and_from_a_list(tmp_path: Path) -> None:
    rows = [
        {"streams": 4, "frames": 4, "tokens": 196, "sampled": 0, "seconds": 0.02},
        {"streams": 4, "frames": 0, "tokens": 4, "sampled": 4, "seconds": 0.01},
    ]
    expected = [MeasuredStep(StepSize(4, 4, 196), 0.02), MeasuredStep(StepSize(4, 0, 4), 0.01)]
    for number, content in enumerate(({"runs": [{"steps": rows[:1]}, {"steps": rows[1:]}]}, rows)):
        path = tmp_path / f"{number}.json"
        path.write_text("\ufeff" * number + json.dumps(content))  # with and without a byte order mark
        assert read_steps(path) == expected
    assert frame_tokens(expected) == 49
    assert frame_tokens(expected[1:]) is None


@pytest.mark.parametrize(
    "text",
    ["no JSON", "{}", "[]", '[{"streams": 1}]', '[{"streams": 2, "frames": 3, "tokens": 9, "seconds": 1}]', "[1]",
     '[{"streams": 1, "tokens": 1, "seconds": 0}]'],
)  # fmt: skip
def test_other_files_are_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "steps.json"
    path.write_text(text)
    with pytest.raises(OptionError, match="mmduet bench engine --json"):
        read_steps(path)


@pytest.mark.parametrize(
    "values", [{"fps": 0}, {"speak_rate": 1.5}, {"jitter": 1.0}, {"frame_tokens": 0}, {"overhead": -1}]
)
def test_invalid_loads_are_rejected(values: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(values))} must be"):
        StreamLoad(**values)  # type: ignore[arg-type]
