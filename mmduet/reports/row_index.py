"""Index the rows of prediction and annotation files by the item of the report that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmduet.annotations.json_values import Json
from mmduet.errors import AnnotationError
from mmduet.files import read_json, read_json_lines, visible_files
from mmduet.reports.item_rows import ItemContent, objects_in, parse_item, texts_in

ID_FIELDS = ("question_id", "qid", "image_id", "movie", "id", "video")
ID_FIELDS_OF_BENCHMARK = {"grounding": ("question_id", "id")}  # there image_id is the video


class RowIndex:
    """The rows of one or more files about the same items, by join key (see ``join_key``).

    Raises:
        AnnotationError: a file is neither JSON nor JSON lines.
    """

    def __init__(self, paths: Iterable[Path], benchmark: str) -> None:
        self._benchmark = benchmark
        self._rows: dict[str, list[Json]] = {}
        for path in paths:
            for content in _read_contents(path):
                for key, row in _rows_with_keys(content, benchmark):
                    self._rows.setdefault(key, []).append(row)

    def content_of(self, key: str) -> ItemContent:
        """Return the contents of an item's rows; empty if there are no rows."""
        return parse_item(self._rows.get(key, []), self._benchmark)

    def has(self, key: str) -> bool:
        """Return whether the files have rows of an item."""
        return key in self._rows


def join_key(item: Json, benchmark: str) -> tuple[str, int | None]:
    """Return the key that joins an item to its rows, and the index of its gold answer; None stands for all gold answers."""
    name = str(item["id"])
    if benchmark == "ovo":  # ids are unique within a task only
        return f"{item.get('task')} {name}", None
    if benchmark == "proactive":
        question, _, answer = name.rpartition("#")
        return (question, int(answer)) if answer.isdecimal() else (name, None)
    return name, None


def _read_contents(path: Path) -> Iterator[Any]:
    if path.is_dir():
        for file in visible_files(path, "*.json"):
            yield from _read_contents(file)
    elif path.suffix == ".jsonl":
        yield read_json_lines(path)
    else:
        yield _read_json_or_lines(path)


def _read_json_or_lines(path: Path) -> Any:
    try:
        return read_json(path, object)
    except AnnotationError:
        return read_json_lines(path)


def _rows_with_keys(content: Any, benchmark: str) -> Iterator[tuple[str, Json]]:
    """Yield the rows of a list, or of a table of rows by id, which may be nested under a name."""
    if isinstance(content, dict) and (key := _row_key(content, benchmark)) is not None:
        yield key, content
    elif isinstance(content, list):
        for row in objects_in(content):
            if (key := _row_key(row, benchmark)) is not None:
                yield key, row
    elif isinstance(content, dict) and benchmark == "ovo":
        for rows in content.values():
            yield from _rows_with_keys(rows if isinstance(rows, list) else [], benchmark)
    elif isinstance(content, dict):
        table = content.get("annotations", content.get("results", content))
        if isinstance(table, list):
            yield from _rows_with_keys(table, benchmark)
        elif isinstance(table, dict):
            yield from ((key, row) for key, value in table.items() for row in _as_rows(value))


def _row_key(row: Json, benchmark: str) -> str | None:
    names = ID_FIELDS_OF_BENCHMARK.get(benchmark, ID_FIELDS)
    key = next((str(row[name]) for name in names if isinstance(row.get(name), str | int)), None)
    return f"{row.get('task')} {key}" if key is not None and benchmark == "ovo" else key


def _as_rows(value: Any) -> list[Json]:
    """Return the value of an id in a table (a row, several rows, or captions) as rows."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, str):
        return [{"caption": value}]
    return [*objects_in(value), *([{"captions": texts}] if (texts := texts_in(value)) else [])]
