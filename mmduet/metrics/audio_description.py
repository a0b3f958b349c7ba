"""R@k/N of audio description: whether a description can be told from its neighbours (AutoAD II, Han et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
WINDOW = 16


def windows(descriptions: int, size: int = WINDOW) -> Iterator[slice]:
    """Windows of ``size`` neighbours that overlap by half, while they fit: a tail shorter than that is in none."""
    return (slice(start, start + size) for start in range(0, descriptions - size + 1, size // 2))


def recall_at_k_in_n(similarity: Matrix, k: int = 5, size: int = WINDOW) -> float:
    """R@k/N of one movie, 0 to 1: the mean over its windows; ``ValueError`` where it is shorter than one.

    ``similarity`` ``[generated, true]`` compares descriptions of the same slots in the order of time; what lies in no window
    together is not looked at.
    """
    recalls = [hits(similarity[window, window], k) for window in windows(len(similarity), size)]
    if not recalls:
        raise ValueError(f"{len(similarity)} descriptions do not fill a window of {size}")
    return float(np.mean(recalls))


def hits(similarity: Matrix, k: int) -> float:
    """The share of rows whose own column is among the ``k`` highest; of equal columns the first counts as higher."""
    ranked = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(ranked == np.arange(len(similarity))[:, None], axis=1)))


def mean_over_movies(similarities: Sequence[Matrix], k: int = 5, size: int = WINDOW) -> float:
    """The unweighted mean of the movies' R@k/N, however long they are; the published code leaves this open."""
    return float(np.mean([recall_at_k_in_n(similarity, k, size) for similarity in similarities]))
