"""What all files of captions have in common: one value or one object a line, ids that are there once, texts under some name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmduet.annotations.prediction_rows import number
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Problem
from mmduet.files import parsed, read_text

Json = dict[str, Any]
IDS = ("image_id", "question_id", "id")


def read_entries(path: Path) -> Json | list[Any]:
    """A JSON object or list, or JSON lines as a list; raises ``AnnotationError`` where it is none, or empty.

    A name that stands twice in one object is refused: JSON would let the last one win.
    """
    text = read_text(path)
    entries = _lines(text, path) if path.suffix == ".jsonl" else _whole(text, path)
    if not isinstance(entries, dict | list):
        raise AnnotationError(f"{path} holds a {type(entries).__name__}, neither an object nor a list")
    if not entries:
        raise AnnotationError(f"{path} is empty; is it the right file?")
    return entries


def _whole(text: str, path: Path) -> Any:
    first, *more = text.strip().split("\n")
    try:
        return _parse(text, path, f"{path}")
    except AnnotationError:
        if more and _is_json(first):  # perhaps one a line
            return _lines(text, path)
        raise


def _is_json(text: str) -> bool:
    try:
        return parsed(text, "") is not None
    except AnnotationError:
        return False


def _lines(text: str, path: Path) -> list[Any]:
    lines = enumerate(text.split("\n"), 1)  # splitlines would split texts at U+2028 too
    return [_parse(line, path, f"{path}, line {number}") for number, line in lines if line.strip()]


def _parse(text: str, path: Path, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> Json:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise AnnotationError(f"{path}: {twice!r} is there twice in one object; keep one")
        return table

    return parsed(text, where, unique)


def field(row: Any, names: Sequence[str], where: str) -> Any:
    """The first of ``names`` that ``row`` has; raises ``AnnotationError`` where it is no object or has none."""
    if isinstance(row, dict):
        for name in names:
            if name in row:
                return row[name]
    raise AnnotationError(f"{where} needs one of {', '.join(names)}; it is {shown(row)}")


def as_id(value: Any, where: str) -> str:
    """An id as a text; whole numbers are what COCO has."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise AnnotationError(f"{where} has the id {shown(value)}; an id is a text or a whole number")
    return str(value)


def as_text(value: Any, where: str) -> str:
    """A caption."""
    if not isinstance(value, str):
        raise AnnotationError(f"{where} has {shown(value)} where a text should be")
    return value


def as_number(value: Any, where: str) -> float:
    """A finite number."""
    if (finite := number(value)) is None:
        raise AnnotationError(f"{where} has {shown(value)} where a number should be")
    return finite


def as_list(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise AnnotationError(f"{where} has {shown(value)} where a list should be")
    return value


def shown(value: Any) -> str:
    """A value as a message has room for it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def once(ids: Iterable[str], path: Path) -> None:
    """Raise ``AnnotationError`` that names an id which is there twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise AnnotationError(f"{path}: {name!r} is there twice; keep one prediction for each id")
        seen.add(name)


def id_problems(
    predicted: Collection[str], gold: Collection[str], predictions: Path, annotations: str, counted: str
) -> list[Problem]:
    """Ids that only one side has; ``counted`` says what a missing prediction is taken for.

    Raises ``AnnotationError`` where no id is on both sides.
    """
    if not set(predicted) & set(gold):
        here, there = (next(iter(ids), None) for ids in (predicted, gold))
        raise AnnotationError(
            f"{predictions} and {annotations} have no id in common ({here!r} here, {there!r} there); do they belong together?"
        )
    missing = [Problem(name, "has no prediction", counted) for name in gold if name not in predicted]
    unknown = [
        Problem(name, "is not in the annotations", "nothing: left out") for name in predicted if name not in gold
    ]
    return missing + unknown
