"""Plan the batches of every epoch: a weighted mixture, grouped by length, as a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import TrainingError

Indices = NDArray[np.int64]
CHUNK_BATCHES = 64  # full batches whose samples are sorted by length together: more pad less, and mix less


class BatchPlan:
    """Batches of sample indices. A batch, padded to its longest sample, has at most ``max_tokens`` tokens.

    A sample of a data set with weight w is drawn w times per epoch; of a fraction of w, that share of the samples is drawn at
    random, without replacement. Samples of length 0 are left out. A sample longer than ``max_tokens`` is a batch of its own.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Sequence[float],
        seed: int,
        max_tokens: int,
        max_samples: int,
        world_size: int = 1,
    ) -> None:
        """``lengths`` in tokens and ``weights`` have one value per sample. Raises ``TrainingError`` without samples."""
        self._lengths = np.asarray(lengths, np.int64)
        self._pools = _pools(self._lengths, np.asarray(weights, np.float64))
        self._seed, self._max_tokens, self._max_samples = seed, max_tokens, max_samples
        self._world_size = world_size
        if not self._pools:
            raise TrainingError("no sample can be trained on; `mmduet data check RECIPE` reports the reasons")

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch; their number is a multiple of ``world_size``.

        Rank r takes every ``world_size``-th batch from r on, so that the batches that the ranks compute at the same time have
        similar sizes. Batches are halved to reach the number; samples are repeated only if every batch has a single sample.
        """
        rng = np.random.default_rng([self._seed, epoch])
        drawn = self._draw(rng)
        chunk = self._chunk_size()
        batches: list[list[int]] = []
        for start in range(0, len(drawn), chunk):
            batches += self._group(drawn[start : start + chunk])
        groups = self._split_for_ranks(batches)
        return [batch for k in rng.permutation(len(groups)) for batch in groups[k]]

    def rank_batches(self, epoch: int, rank: int) -> list[list[int]]:
        """Return the batches of one rank, as many as those of every other rank."""
        return self.batches(epoch)[rank :: self._world_size]

    def _draw(self, rng: np.random.Generator) -> Indices:
        """Return the samples of an epoch in random order."""
        parts = [_repeat(pool, weight, rng) for weight, pool in self._pools]
        drawn = np.concatenate(parts)
        return drawn[rng.permutation(len(drawn))]

    def _chunk_size(self) -> int:
        mean = float(self._lengths[self._lengths > 0].mean())
        return max(1, CHUNK_BATCHES * min(self._max_samples, int(self._max_tokens / mean) + 1))

    def _group(self, drawn: Indices) -> Iterator[list[int]]:
        """Yield batches of samples of similar lengths, the longest first."""
        batch: list[int] = []
        longest = 0
        for index in drawn[np.argsort(-self._lengths[drawn], kind="stable")].tolist():
            is_full = len(batch) == self._max_samples or (len(batch) + 1) * longest > self._max_tokens
            if batch and is_full:
                yield batch
                batch = []
            longest = int(self._lengths[index]) if not batch else longest
            batch.append(index)
        yield batch

    def _split_for_ranks(self, batches: list[list[int]]) -> list[list[list[int]]]:
        """Return groups of ``world_size`` batches. Where their number does not fit, batches are halved, the largest first."""
        size = self._world_size
        missing = -len(batches) % size
        for _ in range(missing):
            largest = max(range(len(batches)), key=lambda k: len(batches[k]))
            batch = batches[largest]
            half = len(batch) // 2 or 1  # a single sample is repeated
            batches[largest : largest + 1] = [batch[:half], batch[half:] or batch]
        return [batches[k : k + size] for k in range(0, len(batches), size)]


def _pools(lengths: Indices, weights: NDArray[np.float64]) -> list[tuple[float, Indices]]:
    """Return the usable samples by weight."""
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise TrainingError("the weights of samples must be finite numbers of at least 0")
    usable = (lengths > 0) & (weights > 0)
    return [(float(weight), np.flatnonzero(usable & (weights == weight))) for weight in np.unique(weights[usable])]


def _repeat(pool: Indices, weight: float, rng: np.random.Generator) -> Indices:
    """Return ``weight`` times the samples of a pool, at least one of them."""
    count = max(1, round(weight * len(pool)))
    copies, rest = divmod(count, len(pool))
    return np.concatenate([*[pool] * copies, rng.permutation(pool)[:rest]])
