"""The batches of a run by step and process, the division for validation, the average of weights, and early stops."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmduet.annotations.training_samples import Sample
from mmduet.errors import TrainingError
from mmduet.training.bad_samples import BadSamples
from mmduet.training.batch_plan import BatchPlan
from mmduet.training.data_sets import SourceSample
from mmduet.training.dataset import BadSample
from mmduet.training.recipe import Optimization
from mmduet.training.run_report import has_lost_patience
from mmduet.training.step_plan import StepPlan, count_steps
from mmduet.training.validation_split import split_samples
from mmduet.training.weight_average import WeightAverage

SIZES = st.lists(st.integers(1, 900), min_size=1, max_size=40)


def make_plan(lengths: list[int], group: int) -> BatchPlan:
    return BatchPlan(lengths, [1.0] * len(lengths), seed=3, max_tokens=1000, max_samples=4, world_size=group)


@given(SIZES, st.integers(1, 3), st.integers(1, 3), st.integers(1, 9))
def test_a_step_has_the_same_samples_however_it_is_divided(
    lengths: list[int], processes: int, accumulation: int, steps: int
) -> None:
    group = processes * accumulation
    plan = make_plan(lengths, group)
    alone = list(StepPlan(plan, steps, group))
    ranks = [list(StepPlan(plan, steps, accumulation, processes, rank)) for rank in range(processes)]
    assert len(alone) == steps * group
    assert all(len(rank) == steps * accumulation == len(StepPlan(plan, steps, accumulation)) for rank in ranks)
    for step in range(steps):
        together = [batch for rank in ranks for batch in rank[step * accumulation : (step + 1) * accumulation]]
        assert sorted(together) == sorted(alone[step * group : (step + 1) * group])


@given(SIZES, st.integers(1, 4))
def test_an_epoch_has_every_sample(lengths: list[int], group: int) -> None:
    plan = make_plan(lengths, group)
    steps = count_steps(plan, Optimization(accumulation=group))
    keys = [key for batch in StepPlan(plan, steps, group) for key in batch]
    assert {index for _, index in keys} == set(range(len(lengths)))
    assert {epoch for epoch, _ in keys} == {0}
    following = next(islice(StepPlan(plan, steps + 1, group), steps * group, None))
    assert {epoch for epoch, _ in following} == {1}


def test_steps_follow_from_epochs() -> None:
    plan = make_plan([500] * 20, 2)  # ten batches of two samples, five groups
    counts = [count_steps(plan, Optimization(epochs=epochs), 2) for epochs in (0.2, 1.0, 1.4, 2.0)]
    assert counts == [1, 5, 7, 10]
    assert count_steps(plan, Optimization(epochs=2.0, steps=3), 2) == 3


def sources(count: int) -> list[SourceSample]:
    return [SourceSample(Sample("captioning", f"{k // 2}"), Path(f"{k // 2}.mp4"), "s", f"s/{k}") for k in range(count)]


def test_all_samples_of_a_video_are_kept_for_validation_or_none() -> None:
    training, kept = split_samples(sources(40), 0.25, seed=0)
    assert len(kept) == 10
    assert len(training) == 30
    assert {source.path for source in training}.isdisjoint(source.path for source in kept)
    assert split_samples(sources(40), 0.25, seed=0)[1] == kept
    assert split_samples(sources(40), 0.25, seed=1)[1] != kept
    assert split_samples(sources(4), 0.0, seed=0) == (sources(4), [])
    with pytest.raises(TrainingError, match=r"validation\.share 0\.9 of 1 videos leaves none"):
        split_samples(sources(2), 0.9, seed=0)


def test_the_average_follows_the_weights() -> None:
    weights = {"w": torch.zeros(2)}
    average = WeightAverage(weights, 0.9)
    for step in range(1, 200):
        weights["w"] += 1
        average.update(weights, step)
    assert average.weights["w"].tolist() == pytest.approx([190.0, 190.0], abs=0.1)  # 1 / (1 - 0.9) - 1 steps behind
    restored = WeightAverage(weights, 0.9)
    restored.load(average.weights)
    assert torch.equal(restored.weights["w"], average.weights["w"])


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.0], 2, True),
        ([3.0, 4.0, 5.0], None, False),
    ],
)
def test_patience_ends_without_a_lower_loss(losses: list[float], patience: int | None, stops: bool) -> None:
    assert has_lost_patience(losses, patience) is stops


def test_bad_samples_are_reported_once_and_accepted_up_to_a_share() -> None:
    reported: list[BadSample] = []
    bad = BadSamples(10, 0.2, reported.append)
    first, second, third = (BadSample(f"s/{k}", "damaged") for k in range(3))
    bad.add([first, second])
    bad.add([first])
    assert reported == [first, second]
    with pytest.raises(TrainingError, match=r"3 of 10 samples.*is 0\.2.*s/0: damaged.*s/2: damaged"):
        bad.add([third])
