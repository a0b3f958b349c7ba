"""Statistics of the heads during training: how well their scores separate the labels, and how often the model would speak.

Accuracy is not among them: with few positive frames, a head that never fires is right almost always.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from mmduet.duet import IGNORE
from mmduet.metrics.binary import average_precision, f1_at, roc_auc, speaking_rate

SPEAKING_HEAD = "informative"


class HeadStatistics:
    """Scores and labels of the frames since the last ``reset``, by head."""

    def __init__(self, threshold: float = 0.5) -> None:
        """``threshold`` is the score above which a frame counts as predicted positive."""
        self._threshold = threshold
        self._scores: defaultdict[str, list[npt.NDArray[np.float32]]] = defaultdict(list)
        self._labels: defaultdict[str, list[npt.NDArray[np.int64]]] = defaultdict(list)

    def add(self, head: str, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Add frames: the probability of the positive class, and 1, 0 or ``IGNORE``, both of the same shape."""
        targets = np.asarray(labels, dtype=np.int64).ravel()
        labelled = targets != IGNORE
        self._scores[head].append(np.asarray(scores, dtype=np.float32).ravel()[labelled])
        self._labels[head].append(targets[labelled])

    def merge(self, other: HeadStatistics) -> None:
        """Add the frames of another process or data set."""
        for head in other._scores:
            self._scores[head] += other._scores[head]
            self._labels[head] += other._labels[head]

    def compute(self) -> dict[str, float]:
        """Return ``HEAD_roc_auc``, ``HEAD_pr_auc`` and ``HEAD_f1`` of each head, and ``speaking_rate``.

        Values that are not defined, such as an area without positive frames, are left out.
        """
        metrics: dict[str, float] = {}
        for head in self._scores:
            scores, labels = np.concatenate(self._scores[head]), np.concatenate(self._labels[head])
            metrics[f"{head}_roc_auc"] = roc_auc(scores, labels)
            metrics[f"{head}_pr_auc"] = average_precision(scores, labels)
            metrics[f"{head}_f1"] = f1_at(scores, labels, self._threshold)
            if head == SPEAKING_HEAD:
                metrics["speaking_rate"] = speaking_rate(scores, self._threshold)
        return {name: value for name, value in metrics.items() if not np.isnan(value)}

    def reset(self) -> None:
        """Forget all frames."""
        self._scores.clear()
        self._labels.clear()
