"""What an evaluator says: metrics under the field's own names, the items behind them, and what was wrong with the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmduet.errors import AnnotationError
from mmduet.options import Profile

Json = dict[str, Any]
Number = float | int


@dataclass(frozen=True)
class Problem:
    """A prediction, or a missing one, that cannot be used as it is; ``counted`` says what it was taken for."""

    id: str
    what: str
    counted: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.id}: {self.what} (counted as {self.counted})"


@dataclass(frozen=True)
class Report:
    """The result of one evaluation.

    ``metrics`` are times 100 except counts and scores from 1 to 5. ``items`` have an ``id`` and one number for each metric that
    an item has by itself (scaled as in ``metrics``). ``sweep`` has one row for each setting tried on the test set itself.
    ``intervals`` are bootstrap confidence intervals of ``metrics``.
    """

    benchmark: str
    metrics: Mapping[str, Number]
    items: Sequence[Json] = ()
    sweep: Sequence[Json] = ()
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()
    profile: Profile = "fixed"
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self, *, per_item: bool = False) -> Json:
        """As it is written to a file; what is no number (NaN, infinity) becomes null."""
        report: Json = {
            "benchmark": self.benchmark,
            "profile": self.profile,
            "metrics": dict(self.metrics),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "sweep": list(self.sweep),
            "problems": [{"id": p.id, "what": p.what, "counted": p.counted} for p in self.problems],
            "notes": list(self.notes),
        }
        if per_item:
            report["items"] = list(self.items)
        clean: Json = without_nan(report)
        return clean


def refuse_problems(problems: Sequence[Problem], most_told: int = 10) -> None:
    """Raise ``AnnotationError`` that names them, for ``--strict``; nothing where there are none."""
    if not problems:
        return
    told = "\n".join(f"  {problem.id}: {problem.what}" for problem in problems[:most_told])
    more = f"\n  and {len(problems) - most_told} more" if len(problems) > most_told else ""
    what = "1 prediction" if len(problems) == 1 else f"{len(problems)} predictions"
    raise AnnotationError(f"{what} cannot be used as they are (mend them, or do without --strict):\n{told}{more}")


def without_nan(value: Any) -> Any:
    """The same value with None for every float that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return value
