"""Read annotation and prediction files: one JSON value or one object per line, with unique keys and unique ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmduet.annotations.json_values import Json, annotation_errors, as_id, get_field, short_repr
from mmduet.errors import AnnotationError
from mmduet.files import parse_json, read_text


def read_json_content(path: Path, *, allow_empty: bool = False) -> Json | list[Any]:
    """Return the JSON object or list of a file, or the values of a file of JSON lines as a list.

    A file of JSON lines with a single line is returned as that line's value: see ``as_rows``.

    Raises:
        AnnotationError: the file cannot be read, is empty (unless ``allow_empty``), holds neither an object nor a list,
            or has an object with the same key twice, of which a JSON parser would silently keep the last.
    """
    content = _parse_whole_or_lines(read_text(path), path)
    if not isinstance(content, dict | list):
        raise AnnotationError(f"{path} holds a {type(content).__name__}, expected an object or a list")
    if not content and not allow_empty:
        raise AnnotationError(f"{path} is empty; check that it is the right file")
    return content


def read_json_table(path: Path, *, allow_empty: bool = False) -> Json:
    """Return the JSON object that a file holds. Raises ``AnnotationError``; see ``read_json_content``."""
    content = read_json_content(path, allow_empty=allow_empty)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path} holds a list, expected an object; check that it has the expected format")
    return content


def read_json_list(path: Path, *, allow_empty: bool = False) -> list[Any]:
    """Return the JSON list that a file holds. Raises ``AnnotationError``; see ``read_json_content``."""
    content = read_json_content(path, allow_empty=allow_empty)
    if not isinstance(content, list):
        raise AnnotationError(f"{path} holds an object, expected a list; check that it has the expected format")
    return content


def read_json_rows(path: Path, *, allow_empty: bool = False) -> list[Json]:
    """Return the objects of a JSON list or of JSON lines. Raises ``AnnotationError``; see ``read_json_content``."""
    content = read_json_content(path, allow_empty=allow_empty)
    rows = [content] if isinstance(content, dict) else content
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, entry {i}, is {short_repr(row)}, expected an object")
    return rows


def as_rows(content: Json | list[Any], *names: str) -> Json | list[Any]:
    """Return ``content``, or a list of it where it is a single row: an object with the field of any of ``names``."""
    return [content] if isinstance(content, dict) and any(name in content for name in names) else content


def rows_by_id(rows: Sequence[Any], path: Path, *fields: str) -> dict[str, Json]:
    """Return the rows by the text of their id, which is the first of ``fields`` that a row has.

    Raises:
        AnnotationError: a row has no id, or two rows have the same.
    """
    ids = []
    for i, row in enumerate(rows):
        with annotation_errors(f"{path}, entry {i}"):
            ids.append(as_id(get_field(row, *fields), fields[0]))
    check_unique_ids(ids, path)
    return dict(zip(ids, rows, strict=True))


def check_unique_ids(ids: Iterable[str], path: Path) -> None:
    """Raise ``AnnotationError`` naming the first id that is listed twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise AnnotationError(f"{path}: id {name!r} is listed twice; keep one entry per id")
        seen.add(name)


def _parse_whole_or_lines(text: str, path: Path) -> Any:
    try:
        return _parse(text, path, f"{path}")
    except AnnotationError:
        first, *more = text.strip().split("\n")
        if path.suffix == ".jsonl" or (more and _is_json(first)):
            return _parse_lines(text, path)
        raise


def _is_json(text: str) -> bool:
    try:
        parse_json(text, "")
    except AnnotationError:
        return False
    return True


def _parse_lines(text: str, path: Path) -> list[Any]:
    lines = enumerate(text.split("\n"), 1)  # str.splitlines would also split texts at U+2028
    return [_parse(line, path, f"{path}, line {number}") for number, line in lines if line.strip()]


def _parse(text: str, path: Path, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> Json:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            raise AnnotationError(f"{path}: key {repeated!r} is listed twice in one object; keep one")
        return table

    return parse_json(text, where, unique)
