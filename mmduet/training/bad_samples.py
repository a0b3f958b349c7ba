"""The samples of a run that cannot be trained on, and how many of them are accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mmduet.errors import TrainingError
from mmduet.training.dataset import BadSample

MAX_LISTED = 5


class BadSamples:
    """Bad samples by id. Each is reported once; more than a share of all samples ends the run."""

    def __init__(self, total: int, max_fraction: float, report: Callable[[BadSample], None]) -> None:
        self._total, self._max_fraction, self._report = total, max_fraction, report
        self._found: dict[str, BadSample] = {}

    def __len__(self) -> int:
        """Return how many samples are bad."""
        return len(self._found)

    def add(self, samples: Iterable[BadSample]) -> None:
        """Add samples. Raises ``TrainingError`` naming the first ones if there are too many."""
        new = [sample for sample in samples if sample.id not in self._found]
        for sample in new:
            self._found[sample.id] = sample
            self._report(sample)
        if new and len(self._found) > self._max_fraction * self._total:
            listed = "; ".join(str(sample) for sample in list(self._found.values())[:MAX_LISTED])
            raise TrainingError(
                f"{len(self._found)} of {self._total} samples cannot be trained on, and optimization.max_bad_fraction "
                f"is {self._max_fraction:g}: {listed}; repair or remove them, or raise max_bad_fraction"
            )
