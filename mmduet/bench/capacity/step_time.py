"""A model of the duration of a step, fitted to measured steps: affine in its streams, frames and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmduet.bench.capacity.measured_steps import MeasuredStep, StepSize

Array = NDArray[np.float64]


class StepTime(Protocol):
    """The duration of steps."""

    def draw(self, size: StepSize, random: np.random.Generator) -> float:
        """Return the duration in seconds of the next step of this size."""


@dataclass(frozen=True)
class AffineStepTime:
    """Steps that take ``fixed + per_stream * streams + per_frame * frames + per_token * tokens`` seconds on average.

    Attributes:
        noise: Ratios of measured to expected durations, of which one is drawn for each step; empty: exact durations.
    """

    fixed: float
    per_stream: float = 0.0
    per_frame: float = 0.0
    per_token: float = 0.0
    noise: tuple[float, ...] = ()

    def mean(self, size: StepSize) -> float:
        """Return the expected duration of a step in seconds."""
        return self.fixed + self.per_stream * size.streams + self.per_frame * size.frames + self.per_token * size.tokens

    def draw(self, size: StepSize, random: np.random.Generator) -> float:
        """Return the duration in seconds of the next step of this size."""
        return self.mean(size) * (self.noise[random.integers(len(self.noise))] if self.noise else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the terms in seconds under the names of the report, without the noise."""
        return {
            "fixed": self.fixed,
            "per_stream": self.per_stream,
            "per_frame": self.per_frame,
            "per_token": self.per_token,
        }


def fit_step_time(steps: Sequence[MeasuredStep], *, with_noise: bool = True) -> AffineStepTime:
    """Return the model with the least relative squared error that has no negative term.

    A size counts with the mean of its steps, because the load of an engine follows from means, and with the root of their
    number.
    """
    sizes, means, counts = _group(steps)
    weights = np.sqrt(counts) / means  # [sizes]
    features = np.array([[1, size.streams, size.frames, size.tokens] for size in sizes], float)  # [sizes, 4]
    fixed, *slopes = _nonnegative_least_squares(features * weights[:, None], means * weights)
    model = AffineStepTime(fixed, slopes[0], slopes[1], slopes[2])
    return replace(model, noise=tuple(step.seconds / model.mean(step.size) for step in steps)) if with_noise else model


def largest_error(model: AffineStepTime, steps: Sequence[MeasuredStep]) -> tuple[float, StepSize]:
    """Return the largest relative error of the model for the mean of a size, and that size."""
    sizes, means, _ = _group(steps)
    errors = [(model.mean(size) / mean - 1, size) for size, mean in zip(sizes, means, strict=True)]
    return max(errors, key=lambda error: abs(error[0]))


def _group(steps: Sequence[MeasuredStep]) -> tuple[list[StepSize], Array, Array]:
    """Return the sizes of steps, and for each one the mean duration and the number of steps."""
    groups: dict[StepSize, list[float]] = {}
    for step in steps:
        groups.setdefault(step.size, []).append(step.seconds)
    means, counts = ([function(seconds) for seconds in groups.values()] for function in (np.mean, len))
    return list(groups), np.array(means, float), np.array(counts, float)


def _nonnegative_least_squares(matrix: Array, values: Array) -> list[float]:
    """Return the coefficients [n] >= 0 with the least squared error; ``matrix`` [rows, n] has few columns.

    The optimum is the unrestricted one of some subset of columns, so all subsets are tried.
    """
    columns = range(matrix.shape[1])
    best, least = np.zeros(matrix.shape[1]), float(values @ values)
    for chosen in (subset for count in columns for subset in combinations(columns, count + 1)):
        solution = np.linalg.lstsq(matrix[:, chosen], values, rcond=None)[0]
        if (solution < 0).any():
            continue
        error = float(((matrix[:, chosen] @ solution - values) ** 2).sum())
        if error < least * (1 - 1e-9):  # of equal ones, that with the fewest terms
            best, least = np.zeros(matrix.shape[1]), error
            best[list(chosen)] = solution
    return [float(value) for value in best]
