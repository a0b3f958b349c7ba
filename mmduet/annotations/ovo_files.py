"""Read OVO-Bench's result files and its list of questions.

A result file is ``{"backward": [...], "realtime": [...], "forward": [...]}``. An entry has ``id``, ``task``, and ``response``
with ``ground_truth`` (a letter), or for forward tasks ``test_info``: moments with ``response`` and ``count`` or ``type``.
Source: OVO-Bench (arXiv 2501.05510) and its scorer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.json_files import read_json_list, read_json_table
from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_id,
    as_list,
    get_field,
    list_field,
    short_repr,
    value_errors,
)
from mmduet.errors import AnnotationError
from mmduet.files import visible_files

TASKS_OF_GROUP: Mapping[str, tuple[str, ...]] = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
GROUP_OF_TASK = {task: group for group, tasks in TASKS_OF_GROUP.items() for task in tasks}
COUNTING_TASK = "REC"


@dataclass(frozen=True)
class OvoAnswer:
    """A response, and the expected letter, "Yes", "No" or count."""

    response: str | None
    gold: str


@dataclass(frozen=True)
class OvoEntry:
    """A question of a task. Forward tasks ask at several moments and have one answer for each."""

    id: str | int
    task: str
    answers: tuple[OvoAnswer, ...]


def read_results(path: Path) -> list[OvoEntry]:
    """Return the entries of a result file, or of all ``.json`` files in a folder.

    Raises ``AnnotationError`` naming the entry, or where there are no entries.
    """
    entries = [entry for file in _result_files(path) for entry in _read_file(file)]
    if not entries:
        raise AnnotationError(f"{path} has no results; check that the run that wrote it was completed")
    return entries


def read_questions(path: Path) -> list[OvoEntry]:
    """Return the questions of the benchmark's annotations, unanswered: each response is None.

    Raises ``AnnotationError`` naming the entry.
    """
    entries = []
    for i, row in enumerate(read_json_list(path)):
        with annotation_errors(f"{path}, entry {i}"):
            task = _parse_task(row)
            count = len(list_field(row, "test_info")) if GROUP_OF_TASK[task] == "forward" else 1
            entries.append(OvoEntry(row["id"], task, (OvoAnswer(None, "0"),) * count))
    return entries


def _result_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := visible_files(path, "*.json")):
        raise AnnotationError(f"{path} has no .json files; give a result file, or a folder of result files")
    return files


def _read_file(path: Path) -> Iterator[OvoEntry]:
    table = read_json_table(path, allow_empty=True)
    for group, rows in table.items():
        with annotation_errors(f"{path}, {group}"):
            if group not in TASKS_OF_GROUP:
                raise InvalidValueError(f"unknown group, expected one of {', '.join(TASKS_OF_GROUP)}")
            for i, row in enumerate(as_list(rows, "the list of entries")):
                with value_errors(f"entry {i}"):
                    yield _parse_entry(row, group)


def _parse_entry(row: Any, group: str) -> OvoEntry:
    task = _parse_task(row)
    with value_errors(f"id {row['id']!r}, task {task}"):
        if GROUP_OF_TASK[task] != group:
            raise InvalidValueError(f"the task belongs to {GROUP_OF_TASK[task]}; move the entry there")
        if group != "forward":
            return OvoEntry(row["id"], task, (OvoAnswer(_parse_response(row), _parse_letter(row)),))
        moments = list_field(row, "test_info")
        return OvoEntry(row["id"], task, tuple(OvoAnswer(_parse_response(m), _parse_gold(m, task)) for m in moments))


def _parse_task(row: object) -> str:
    """Return an entry's task, and check its id."""
    with value_errors(f"id {short_repr(as_id(get_field(row, 'id')))}"):
        task = get_field(row, "task")
        if not isinstance(task, str) or task not in GROUP_OF_TASK:
            raise InvalidValueError(f"task is {short_repr(task)}, expected one of {', '.join(GROUP_OF_TASK)}")
        return task


def _parse_response(row: object) -> str | None:
    response = get_field(row, "response")
    if response is not None and not isinstance(response, str):
        raise InvalidValueError(f"response is {short_repr(response)}, expected the model's text or null")
    return response


def _parse_letter(row: Json) -> str:
    gold = row.get("ground_truth")
    if isinstance(gold, str) and len(gold) == 1 and "A" <= gold <= "Z":
        return gold
    raise InvalidValueError(f"ground_truth is {short_repr(gold)}, expected the letter of the correct option")


def _parse_gold(moment: Json, task: str) -> str:
    """Return the expected response at a moment: a count, "Yes" or "No"."""
    name = "count" if task == COUNTING_TASK else "type"
    value = moment.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (name == "type" and value > 1):
        expected = "a whole number from 0 up" if name == "count" else "0 (No) or 1 (Yes)"
        raise InvalidValueError(f"{name} is {short_repr(value)}, expected {expected}")
    return str(value) if name == "count" else ("No", "Yes")[value]
