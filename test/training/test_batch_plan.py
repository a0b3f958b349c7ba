"""Batch plans: mixture weights, bounds, and the same batches for the same seed and epoch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import TrainingError
from mmduet.training.batch_plan import BatchPlan

lengths_by_set = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=30), min_size=1, max_size=3)
set_weights = st.lists(st.sampled_from([0.1, 0.5, 1.0, 1.7, 2.0, 3.0]), min_size=3, max_size=3, unique=True)


def counted(plan: BatchPlan, epoch: int) -> Counter[int]:
    return Counter(index for batch in plan.batches(epoch) for index in batch)


@given(lengths_by_set, set_weights, st.integers(0, 3), st.integers(1, 4), st.integers(1, 9))
def test_every_set_is_drawn_by_its_weight_and_batches_are_bounded(
    sets: list[list[int]], weights: list[float], epoch: int, world_size: int, max_samples: int
) -> None:
    lengths = [length for each in sets for length in each]
    per_sample = [weight for each, weight in zip(sets, weights, strict=False) for _ in each]
    plan = BatchPlan(lengths, per_sample, 5, 400, max_samples, world_size)
    batches = plan.batches(epoch)
    assert len(batches) % world_size == 0
    for batch in batches:
        assert 1 <= len(batch) <= max_samples
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 400
    assert [plan.rank_batches(epoch, rank) for rank in range(world_size)] == [
        batches[rank::world_size] for rank in range(world_size)
    ]
    counts, first = counted(plan, epoch), 0
    expected = [max(1, round(weight * len(each))) for each, weight in zip(sets, weights, strict=False)]
    if sum(counts.values()) > sum(expected):  # repeated, so that every rank has as many batches
        assert all(len(batch) == 1 for batch in batches)
        assert sum(counts.values()) - sum(expected) < world_size
        return
    for each, count in zip(sets, expected, strict=True):
        own = [counts[index] for index in range(first, first + len(each))]
        assert sum(own) == count
        assert max(own) - min(own) <= 1  # without replacement: no sample a second time before every one was drawn
        first += len(each)


@given(st.integers(0, 5), st.integers(0, 5))
def test_batches_depend_only_on_seed_and_epoch(seed: int, epoch: int) -> None:
    lengths = [10 + 7 * k % 90 for k in range(80)]
    first, second = (BatchPlan(lengths, [0.5] * 80, seed, 200, 4) for _ in range(2))
    first.batches(epoch + 1)  # what was requested before makes no difference
    assert first.batches(epoch) == second.batches(epoch)
    assert first.batches(epoch) != second.batches(epoch + 1)
    assert first.batches(epoch) != BatchPlan(lengths, [0.5] * 80, seed + 1, 200, 4).batches(epoch)


def test_fractions_are_drawn_again_in_every_epoch() -> None:
    plan = BatchPlan([10] * 20, [0.5] * 20, 0, 100, 4)
    drawn = [set(counted(plan, epoch)) for epoch in range(12)]
    assert all(len(each) == 10 for each in drawn)
    assert set.union(*drawn) == set(range(20))


def test_batches_have_samples_of_similar_lengths_in_random_order() -> None:
    lengths = [10] * 100 + [90] * 100
    batches = BatchPlan(lengths, [1.0] * 200, 0, 360, 100).batches(0)
    padding = sum(len(batch) * max(lengths[i] for i in batch) - sum(lengths[i] for i in batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_ranks_get_batches_of_similar_size_at_the_same_time() -> None:
    lengths = [10 + k for k in range(400)]
    plan = BatchPlan(lengths, [1.0] * 400, 0, 1600, 100, world_size=2)
    pairs = list(zip(plan.rank_batches(0, 0), plan.rank_batches(0, 1), strict=True))
    near = [abs(max(lengths[i] for i in a) - max(lengths[i] for i in b)) < 60 for a, b in pairs]
    assert sum(near) >= 0.9 * len(pairs)


def test_more_ranks_than_samples_repeat_samples() -> None:
    plan = BatchPlan([5, 5], [1.0, 1.0], 0, 100, 4, world_size=5)
    batches = plan.batches(0)
    assert len(batches) == 5
    assert set(counted(plan, 0)) == {0, 1}
    assert all(len(batch) == 1 for batch in batches)


def test_unusable_samples_are_left_out() -> None:
    assert set(counted(BatchPlan([5, 0, 7, 9], [1.0, 1.0, 0.0, 1.0], 0, 100, 4), 0)) == {0, 3}
    with pytest.raises(TrainingError, match="no sample can be trained on"):
        BatchPlan([0, 0], [1.0, 1.0], 0, 100, 4)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(TrainingError, match="must be finite numbers of at least 0"):
            BatchPlan([5], [weight], 0, 100, 4)


def test_a_sample_beyond_the_bound_is_a_batch_of_its_own() -> None:
    batches = BatchPlan([500, 10, 10], [1.0] * 3, 0, 100, 4).batches(0)
    assert sorted(map(sorted, batches)) == [[0], [1, 2]]
