"""Compute R@k/N of audio description: retrieval among neighbouring descriptions (AutoAD II, Han et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
WINDOW = 16


def windows(descriptions: int, size: int = WINDOW) -> Iterator[slice]:
    """Yield windows of ``size`` neighbours that overlap by half. A tail that does not fill a window is left out."""
    return (slice(start, start + size) for start in range(0, descriptions - size + 1, size // 2))


def recall_at_k_in_n(similarity: Matrix, k: int = 5, size: int = WINDOW) -> float:
    """Return R@k/N of one movie, from 0 to 1: the mean over its windows.

    ``similarity`` [generated, gold] compares the descriptions of the same slots in the order of time. Pairs that share no
    window are not used. Raises ``ValueError`` for a movie with fewer than ``size`` descriptions.
    """
    recalls = [top_k_recall(similarity[window, window], k) for window in windows(len(similarity), size)]
    if not recalls:
        raise ValueError(f"a movie needs at least {size} descriptions, got {len(similarity)}")
    return float(np.mean(recalls))


def top_k_recall(similarity: Matrix, k: int) -> float:
    """Return the share of rows whose own column is among the ``k`` highest; of equal columns the first ranks higher."""
    ranked = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(ranked == np.arange(len(similarity))[:, None], axis=1)))


def mean_over_movies(similarities: Sequence[Matrix], k: int = 5, size: int = WINDOW) -> float:
    """Return the unweighted mean of the movies' R@k/N. Published code does not define how movies are averaged."""
    return float(np.mean([recall_at_k_in_n(similarity, k, size) for similarity in similarities]))
