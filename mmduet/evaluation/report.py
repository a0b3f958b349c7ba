"""The result of an evaluation: metrics, per-item values, sweep, confidence intervals and problems with the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmduet.annotations.json_values import Json
from mmduet.annotations.problems import Problem
from mmduet.errors import AnnotationError
from mmduet.options import Profile

Number = float | int
MAX_LISTED_PROBLEMS = 10  # in an error message


@dataclass(frozen=True)
class Report:
    """The result of one evaluation.

    Attributes:
        metrics: Values by metric name, times 100 except for counts and scores from 1 to 5.
        items: One row per item with its ``id`` and its own value of each metric, scaled as in ``metrics``.
        sweep: One row per setting that was evaluated on the test set.
        problems: Predictions that are missing or cannot be used as they are.
        notes: Remarks that a reader of the metrics should know.
        intervals: Bootstrap confidence intervals of metrics.
    """

    benchmark: str
    metrics: Mapping[str, Number]
    items: Sequence[Json] = ()
    sweep: Sequence[Json] = ()
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()
    profile: Profile = "fixed"
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self, *, per_item: bool = False) -> Json:
        """Return the report under its names in JSON files; NaN and infinities become None."""
        report: Json = {
            "benchmark": self.benchmark,
            "profile": self.profile,
            "metrics": dict(self.metrics),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "sweep": list(self.sweep),
            "problems": [{"id": p.id, "what": p.message, "counted": p.counted_as} for p in self.problems],
            "notes": list(self.notes),
        }
        if per_item:
            report["items"] = list(self.items)
        clean: Json = nan_to_none(report)
        return clean


def check_no_problems(problems: Sequence[Problem]) -> None:
    """Raise ``AnnotationError`` with the first problems, if there are any (``--strict``)."""
    if not problems:
        return
    listed = "\n".join(f"  {problem.id}: {problem.message}" for problem in problems[:MAX_LISTED_PROBLEMS])
    more = f"\n  and {len(problems) - MAX_LISTED_PROBLEMS} more" if len(problems) > MAX_LISTED_PROBLEMS else ""
    count = "1 prediction has" if len(problems) == 1 else f"{len(problems)} predictions have"
    raise AnnotationError(f"{count} problems (fix them, or leave out --strict):\n{listed}{more}")


def nan_to_none(value: Any) -> Any:
    """Return a value with None for every float that JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: nan_to_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(v) for v in value]
    return value
