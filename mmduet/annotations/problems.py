"""Report predictions that cannot be used as they are: missing, unknown or malformed ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mmduet.annotations.json_values import InvalidValueError
from mmduet.errors import AnnotationError

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """A prediction that is missing or cannot be used as it is; ``counted_as`` is what the evaluation takes it for."""

    id: str
    message: str
    counted_as: str

    def __str__(self) -> str:
        """Return the problem on one line."""
        return f"{self.id}: {self.message} (counted as {self.counted_as})"


def check_ids_overlap(
    predicted: Collection[str], annotated: Collection[str], predictions: object, annotations: object
) -> None:
    """Raise ``AnnotationError`` unless some predicted id is annotated; the last two arguments name the files."""
    if set(predicted).isdisjoint(annotated):
        examples = " and ".join(repr(next(iter(ids), None)) for ids in (predicted, annotated))
        raise AnnotationError(
            f"{predictions} and {annotations} have no id in common (for example {examples}); "
            "give predictions and annotations of the same split"
        )


def id_problems(predicted: Collection[str], annotated: Collection[str], counted_as: str) -> list[Problem]:
    """Return a problem for each id that only one side has; ``counted_as`` applies to missing predictions."""
    return [*missing_id_problems(predicted, annotated, counted_as), *unknown_id_problems(predicted, annotated)]


def missing_id_problems(predicted: Collection[str], annotated: Collection[str], counted_as: str) -> list[Problem]:
    """Return a problem for each annotated id without a prediction."""
    return [Problem(name, "has no prediction", counted_as) for name in annotated if name not in predicted]


def unknown_id_problems(predicted: Collection[str], annotated: Collection[str]) -> list[Problem]:
    """Return a problem for each predicted id that is not annotated; such predictions are left out."""
    return [
        Problem(name, "is not in the annotations", "nothing: left out") for name in predicted if name not in annotated
    ]


def parse_predictions(
    rows: Mapping[str, Any],
    ids: Collection[str],
    parse: Callable[[str, Any], T],
    problems: list[Problem],
    counted_as: str,
) -> dict[int, T]:
    """Return ``parse(id, row)`` of every id that has a row, by the position of the id in ``ids``.

    Rows for which ``parse`` raises ``InvalidValueError`` are left out and appended to ``problems``.
    """
    parsed: dict[int, T] = {}
    for position, name in enumerate(ids):
        if name not in rows:
            continue
        try:
            parsed[position] = parse(name, rows[name])
        except InvalidValueError as error:
            problems.append(Problem(name, str(error), counted_as))
    return parsed
