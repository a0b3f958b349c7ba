"""Which rows of the field's files belong to which item of a report; what they tell is the business of ``told``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmduet.errors import AnnotationError
from mmduet.files import read_json, read_json_lines
from mmduet.reports.told import Json, Told, dicts, strings, tell

IDS = ("question_id", "qid", "image_id", "movie", "id", "video")
IDS_OF = {"grounding": ("question_id", "id")}  # an image_id is the video there


class Files:
    """A file, or several that tell of the same items, by the items' keys (see ``key_of``)."""

    def __init__(self, paths: Iterable[Path], benchmark: str) -> None:
        """Raises ``AnnotationError`` for a file that is neither JSON nor JSON lines."""
        self._benchmark = benchmark
        self._rows: dict[str, list[Json]] = {}
        for path in paths:
            for content in _contents(path):
                for key, row in _keyed(content, benchmark):
                    self._rows.setdefault(key, []).append(row)

    def tell(self, key: str) -> Told:
        """All of an item; nothing where the files do not have it."""
        return tell(self._rows.get(key, []), self._benchmark)

    def has(self, key: str) -> bool:
        """Whether the files know the item."""
        return key in self._rows


def key_of(item: Json, benchmark: str) -> tuple[str, int | None]:
    """What an item is joined by, and which of the gold answers under that key it is (None: all of them)."""
    name = str(item["id"])
    if benchmark == "ovo":  # ids are of a task
        return f"{item.get('task')} {name}", None
    if benchmark == "proactive":
        question, _, answer = name.rpartition("#")
        return (question, int(answer)) if answer.isdecimal() else (name, None)
    return name, None


def _contents(path: Path) -> Iterator[Any]:
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            yield from _contents(file)
    elif path.suffix == ".jsonl":
        yield read_json_lines(path)
    else:
        yield _whole_or_lines(path)


def _whole_or_lines(path: Path) -> Any:
    try:
        return read_json(path, object)
    except AnnotationError:
        return read_json_lines(path)


def _keyed(content: Any, benchmark: str) -> Iterator[tuple[str, Json]]:
    """Rows with their keys, from a list of rows, or a table of rows by id, alone or under a name."""
    if isinstance(content, dict) and (key := _key(content, benchmark)) is not None:
        yield key, content
    elif isinstance(content, list):
        for row in dicts(content):
            if (key := _key(row, benchmark)) is not None:
                yield key, row
    elif isinstance(content, dict) and benchmark == "ovo":
        for rows in content.values():
            yield from _keyed(rows if isinstance(rows, list) else [], benchmark)
    elif isinstance(content, dict):
        table = content.get("annotations", content.get("results", content))
        if isinstance(table, list):
            yield from _keyed(table, benchmark)
        elif isinstance(table, dict):
            yield from ((key, row) for key, value in table.items() for row in _as_rows(value))


def _key(row: Json, benchmark: str) -> str | None:
    names = IDS_OF.get(benchmark, IDS)
    key = next((str(row[name]) for name in names if isinstance(row.get(name), str | int)), None)
    return f"{row.get('task')} {key}" if key is not None and benchmark == "ovo" else key


def _as_rows(value: Any) -> list[Json]:
    """What stands under an id: a row, several, or captions."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, str):
        return [{"caption": value}]
    return [*dicts(value), *([{"captions": texts}] if (texts := strings(value)) else [])]
