"""Check values that were read from JSON: numbers, texts, ids, lists and time spans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmduet.errors import AnnotationError
from mmduet.spans import Span

Json = dict[str, Any]
MAX_REPR_CHARS = 80


class InvalidValueError(ValueError):
    """A value does not follow its format. The message names the value; ``annotation_errors`` adds the file."""


@contextmanager
def annotation_errors(where: str) -> Iterator[None]:
    """Turn an ``InvalidValueError`` into an ``AnnotationError`` whose message begins with ``where``."""
    try:
        yield
    except InvalidValueError as error:
        raise AnnotationError(f"{where}: {error}") from None


@contextmanager
def value_errors(place: str) -> Iterator[None]:
    """Prefix the message of an ``InvalidValueError`` with ``place``, a part of the value being read."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(f"{place}: {error}") from None


def short_repr(value: object, max_chars: int = MAX_REPR_CHARS) -> str:
    """Return ``repr(value)``, cut to ``max_chars``."""
    text = repr(value)
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def finite_number(value: object) -> float | None:
    """Return a finite number as a float, or None for anything else: text, booleans, NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of floats
        return None


def id_text(value: object) -> str | None:
    """Return an id as text, or None for a value that is not an id.

    Predictions and annotations are joined by this text, because files do not agree on ``60`` or ``"60"``.
    """
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def as_id(value: object, what: str = "the id") -> str:
    """Return an id as text. Raises ``InvalidValueError``."""
    if (text := id_text(value)) is None:
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected a text or a whole number")
    return text


def as_text(value: object, what: str) -> str:
    """Return a string. Raises ``InvalidValueError``."""
    if not isinstance(value, str):
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected a text")
    return value


def as_number(value: object, what: str) -> float:
    """Return a finite number. Raises ``InvalidValueError``."""
    if (number := finite_number(value)) is None:
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected a finite number")
    return number


def as_list(value: object, what: str) -> list[Any]:
    """Return a list. Raises ``InvalidValueError``."""
    if not isinstance(value, list):
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected a list")
    return value


def as_object(value: object, what: str) -> Json:
    """Return a JSON object. Raises ``InvalidValueError``."""
    if not isinstance(value, dict):
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected an object")
    return value


def as_objects(value: object, what: str) -> list[Json]:
    """Return a list of JSON objects. Raises ``InvalidValueError``."""
    return [as_object(item, f"{what}, number {i},") for i, item in enumerate(as_list(value, what))]


def as_numbers(value: object, what: str) -> list[float]:
    """Return a list of finite numbers. Raises ``InvalidValueError`` naming the first that is not."""
    return [as_number(item, f"{what}, number {i},") for i, item in enumerate(as_list(value, what))]


def as_number_rows(value: object, names: Sequence[str], what: str) -> list[list[float]]:
    """Return a list of rows, each with one finite number per name in ``names``. Raises ``InvalidValueError``."""
    rows = []
    for i, row in enumerate(as_list(value, what)):
        if not isinstance(row, list) or len(row) != len(names):
            raise InvalidValueError(f"{what}, number {i}, is {short_repr(row)}, expected [{', '.join(names)}]")
        rows.append([as_number(item, f"{what}, number {i}, {name}") for name, item in zip(names, row, strict=True)])
    return rows


def as_span(value: object, what: str, *, allow_reversed: bool = False) -> Span:
    """Return ``[start, end]`` in seconds as a span.

    Raises ``InvalidValueError`` for anything else and, unless ``allow_reversed``, for an end before the start.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidValueError(f"{what} is {short_repr(value)}, expected [start, end] in seconds")
    span = Span(as_number(value[0], f"the start of {what}"), as_number(value[1], f"the end of {what}"))
    if span.end < span.start and not allow_reversed:
        raise InvalidValueError(f"{what} is {short_repr(value)}: it ends before it starts; swap its ends")
    return span


def as_spans(value: object, what: str, *, allow_reversed: bool = False) -> tuple[Span, ...]:
    """Return ``[[start, end], ...]`` in seconds as spans; see ``as_span``."""
    return tuple(
        as_span(item, f"{what}, number {i},", allow_reversed=allow_reversed)
        for i, item in enumerate(as_list(value, what))
    )


def get_field(row: object, *names: str) -> Any:
    """Return the value of the first of ``names`` that the JSON object ``row`` has. Raises ``InvalidValueError``."""
    if isinstance(row, dict):
        for name in names:
            if name in row:
                return row[name]
    expected = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    raise InvalidValueError(f"missing {expected} in {short_repr(row)}")


def number_field(row: object, *names: str) -> float:
    """Return the finite number under the first of ``names`` that ``row`` has. Raises ``InvalidValueError``."""
    return as_number(get_field(row, *names), names[0])


def text_field(row: object, *names: str) -> str:
    """Return the text under the first of ``names`` that ``row`` has. Raises ``InvalidValueError``."""
    return as_text(get_field(row, *names), names[0])


def list_field(row: object, *names: str) -> list[Any]:
    """Return the list under the first of ``names`` that ``row`` has. Raises ``InvalidValueError``."""
    return as_list(get_field(row, *names), names[0])
