"""What one process computes in a step, as sums that can be added over processes."""

from __future__ import annotations

from collections.abc import Mapping

from mmduet.training.training_module import LABELS


class StepTotals:
    """Sums over the batches of a step.

    The norm of the gradients, before it is limited, and the learning rate are those of the last step in every process.
    """

    def __init__(self) -> None:
        self.grad_norm = self.learning_rate = 0.0
        self._losses = dict.fromkeys(LABELS, 0.0)
        self._labels = dict.fromkeys(LABELS, 0)
        self._tokens = self._samples = 0

    def add(self, losses: Mapping[str, float], labels: Mapping[str, int], tokens: int, samples: int) -> None:
        """Add a batch: its share of each loss, its labels, tokens and samples."""
        for name, value in losses.items():
            self._losses[name] += value
        for name, count in labels.items():
            self._labels[name] += count
        self._tokens += tokens
        self._samples += samples

    def take(self) -> tuple[list[str], list[float]]:
        """Return names and sums, the same names in every process, and begin the next step."""
        values = {**self._losses, **{f"{name}_labels": float(count) for name, count in self._labels.items()}}
        values |= {"tokens": float(self._tokens), "samples": float(self._samples)}
        self._losses, self._labels = dict.fromkeys(LABELS, 0.0), dict.fromkeys(LABELS, 0)
        self._tokens = self._samples = 0
        return list(values), list(values.values())
