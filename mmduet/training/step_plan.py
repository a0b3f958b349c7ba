"""The batches of a whole training run, in the order of its steps, for one of its processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

from mmduet.training.batch_plan import BatchPlan
from mmduet.training.recipe import Optimization

Key = tuple[int, int]  # epoch, index of a sample


class StepPlan:
    """A batch sampler: it yields ``steps * accumulation`` batches of keys, those that one process computes.

    ``plan`` yields groups of ``world_size * accumulation`` batches, one group for each step. A step therefore has the same
    samples if processes are exchanged for accumulation.
    """

    def __init__(self, plan: BatchPlan, steps: int, accumulation: int, world_size: int = 1, rank: int = 0) -> None:
        self.steps, self.accumulation = steps, accumulation
        self._plan, self._world_size, self._rank = plan, world_size, rank

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.steps * self.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the batches from the first step on."""
        remaining, group = self.steps, self._world_size * self.accumulation
        for epoch in count():
            batches = self._plan.batches(epoch)
            for start in range(0, min(len(batches), remaining * group), group):
                for batch in batches[start : start + group][self._rank :: self._world_size]:
                    yield [(epoch, index) for index in batch]
            remaining -= len(batches) // group
            if remaining <= 0:
                return


def count_steps(plan: BatchPlan, options: Optimization, world_size: int = 1) -> int:
    """Return the number of steps of a run: ``options.steps``, or as many as ``options.epochs`` takes."""
    if options.steps is not None:
        return options.steps
    group = world_size * options.accumulation
    whole = math.floor(options.epochs)
    steps = float(sum(len(plan.batches(epoch)) // group for epoch in range(whole)))
    if options.epochs > whole:
        steps += (options.epochs - whole) * (len(plan.batches(whole)) // group)
    return max(1, round(steps))
