"""OVO-Bench: accuracy in twelve tasks of online video understanding, from the benchmark's own result files.

Source: OVO-Bench (arXiv 2501.05510) and its scorer. A result file is ``{"backward": [...], "realtime": [...], "forward":
[...]}``; an entry has ``id``, ``task``, and ``response`` with ``ground_truth`` (a letter), or (forward) ``test_info``: moments
with ``response`` and ``count`` or ``type``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.errors import AnnotationError
from mmduet.evaluation.judges.judge import Judge, Progress
from mmduet.evaluation.report import Problem, Report, refuse_problems
from mmduet.files import read_json
from mmduet.metrics import ovo
from mmduet.options import Profile

Json = dict[str, Any]
Id = str | int


@dataclass(frozen=True)
class Answer:
    """A response to a question, or to one of a question's moments, and what it should be: a letter, Yes, No or a count."""

    response: str | None
    gold: str


@dataclass(frozen=True)
class Entry:
    """A question of a task; forward tasks ask at several moments."""

    id: Id
    task: str
    answers: tuple[Answer, ...]


def evaluate(
    predictions: Path,
    annotations: Path | None = None,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    judge: Judge | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Report:
    """Accuracy x 100 by task (``EPM`` ...), by group (``Backward``, ``Realtime``, ``Forward``) and ``Total``.

    ``predictions`` is a result file, or a folder of them, which are pooled. ``annotations`` (the benchmark's own list) are not
    needed; with them, questions that have no result are problems and, under ``fixed``, wrong. Groups are means over those
    of their tasks that are there; ``Total`` is there where all three groups are. ``items`` are questions, with ``accuracy``.

    ``fixed`` finds the option, number, Yes or No that a response gives; ``paper`` has the scorer's rules (``metrics.ovo``).
    Nothing is judged and nothing is random: ``judge``, ``progress`` and ``seed`` are taken as by all evaluators.

    Raises ``AnnotationError`` for files that cannot be used and, if ``strict``, for any problem.
    """
    entries = [entry for path in _files(predictions) for entry in _read(path)]
    if not entries:
        raise AnnotationError(f"{predictions} holds no results; see whether the run that wrote it came to an end")
    problems = [*_repeated(entries), *_unanswered(entries, profile)]
    if annotations:
        missing, strange = _compared(entries, annotations, predictions)
        counted = "wrong" if profile == "fixed" else "nothing"
        problems += [Problem(name, "is not among the annotations", "any other") for name in strange]
        problems += [Problem(f"{entry.task} {entry.id}", "has no result", counted) for entry in missing]
        entries += missing if profile == "fixed" else []
    if strict:
        refuse_problems(problems)
    items = [_item(entry, profile) for entry in entries]
    tasks = {task: _accuracy(task, entries, profile) for task in ovo.GROUP_OF if any(e.task == task for e in entries)}
    metrics = {task: value for task, value in tasks.items() if value == value}  # NaN: entries without a single moment
    metrics |= ovo.averages(metrics)
    return Report("ovo", metrics, items, problems=problems, notes=_notes(metrics), profile=profile)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.glob("*.json"))):
        raise AnnotationError(f"{path} holds no .json files; give a result file, or a folder of them")
    return files


def _read(path: Path) -> Iterator[Entry]:
    groups: Json = read_json(path, dict)
    if strange := [name for name in groups if name not in ovo.GROUPS]:
        raise AnnotationError(f"{path} has a group {strange[0]!r}; a result file has {', '.join(ovo.GROUPS)}")
    for group, rows in groups.items():
        if not isinstance(rows, list):
            raise AnnotationError(f"{path}: {group} holds a {type(rows).__name__}; write a list of entries")
        for number, row in enumerate(rows):
            yield _entry(row, group, f"{path}, {group} entry {number}")


def _entry(row: Any, group: str, where: str) -> Entry:
    task = _task(row, where)
    where = f"{where} (id {row['id']!r}, {task})"
    if ovo.GROUP_OF[task] != group:
        raise AnnotationError(f"{where}: the task belongs to {ovo.GROUP_OF[task]}; move the entry there")
    if group != "forward":
        return Entry(row["id"], task, (Answer(_response(row, where), _letter(row.get("ground_truth"), where)),))
    answers = [Answer(_response(m, where), _wanted(m, task, where)) for m in _moments(row, where)]
    return Entry(row["id"], task, tuple(answers))


def _moments(row: Json, where: str) -> list[Any]:
    moments = row.get("test_info")
    if not isinstance(moments, list):
        raise AnnotationError(f"{where}: test_info is {moments!r:.80}; write a list of moments")
    return moments


def _task(row: Any, where: str) -> str:
    """An entry's task; its id is seen to as well."""
    if not isinstance(row, dict) or isinstance(row.get("id"), bool) or not isinstance(row.get("id"), str | int):
        raise AnnotationError(f"{where} has no id (a text or a whole number): {row!r:.120}")
    task = row.get("task")
    if not isinstance(task, str) or task not in ovo.GROUP_OF:
        raise AnnotationError(f"{where} (id {row['id']!r}): task is {task!r}; use one of {', '.join(ovo.GROUP_OF)}")
    return task


def _response(row: Any, where: str) -> str | None:
    if not isinstance(row, dict) or "response" not in row:
        raise AnnotationError(f"{where} has no response; write the model's words, or null")
    response = row["response"]
    if response is not None and not isinstance(response, str):
        raise AnnotationError(f"{where}: response is {response!r:.80}; write the model's words, or null")
    return response


def _letter(gold: Any, where: str) -> str:
    if isinstance(gold, str) and len(gold) == 1 and "A" <= gold <= "Z":
        return gold
    raise AnnotationError(f"{where}: ground_truth is {gold!r}; write the letter of the right option")


def _wanted(moment: Json, task: str, where: str) -> str:
    """What a moment's response should be: a count, Yes or No."""
    name = "count" if task == "REC" else "type"
    value = moment.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or (name == "type" and value not in (0, 1)) or value < 0:
        allowed = "a whole number" if name == "count" else "0 (No) or 1 (Yes)"
        raise AnnotationError(f"{where}: {name} is {value!r}; write {allowed}")
    return str(value) if name == "count" else ("No", "Yes")[value]


def _repeated(entries: Sequence[Entry]) -> list[Problem]:
    """The scorer counts each: in published results two questions share an id here and there."""
    counts = Counter((entry.task, entry.id) for entry in entries)
    return [
        Problem(f"{task} {id_}", f"is there {count} times", "each by itself")
        for (task, id_), count in counts.items()
        if count > 1
    ]


def _unanswered(entries: Sequence[Entry], profile: Profile) -> Iterator[Problem]:
    for entry in entries:
        name = f"{entry.task} {entry.id}"
        if not entry.answers:
            yield Problem(name, "has no moments in test_info", "nothing")
        for answer in entry.answers:
            if answer.response is None:
                yield Problem(name, "has no response", "wrong")
            elif profile == "fixed" and given(entry.task, answer.response) is None:
                yield Problem(name, f"gives no single answer: {answer.response!r:.80}", "wrong")


def given(task: str, response: str) -> str | float | None:
    """What a response answers: an option's letter, Yes, No or a number; None where it gives none, or leaves it open."""
    if ovo.GROUP_OF[task] != "forward":
        return ovo.option(response)
    return ovo.number(response) if task == "REC" else ovo.yes_no(response)


def _is_right(task: str, answer: Answer, profile: Profile) -> bool:
    if answer.response is None:
        return False
    if profile == "fixed":
        found = given(task, answer.response)
        return found == (float(answer.gold) if task == "REC" else answer.gold)
    if ovo.GROUP_OF[task] != "forward":
        return ovo.letter_contained(answer.response, answer.gold)
    if task == "REC":
        return ovo.digits_joined(answer.response) == answer.gold
    return ovo.answer_contained(answer.response, answer.gold)


def _item(entry: Entry, profile: Profile) -> Json:
    right = [_is_right(entry.task, answer, profile) for answer in entry.answers]
    return {"id": entry.id, "task": entry.task, "accuracy": 100 * ovo.accuracy(right), "answers": len(right)}


def _accuracy(task: str, entries: Sequence[Entry], profile: Profile) -> float:
    """Over all answers of a task, moments of all its questions pooled."""
    return 100 * ovo.accuracy(
        [_is_right(task, answer, profile) for entry in entries if entry.task == task for answer in entry.answers]
    )


def _compared(entries: Sequence[Entry], annotations: Path, predictions: Path) -> tuple[list[Entry], list[str]]:
    """Questions of the benchmark without a result, unanswered; and names of results for questions that it has not."""
    there = {(entry.task, str(entry.id)) for entry in entries}
    rows: list[Any] = read_json(annotations, list)
    wanted = {}
    for number, row in enumerate(rows):
        task = _task(row, f"{annotations}, entry {number}")
        moments = _moments(row, f"{annotations}, entry {number}") if ovo.GROUP_OF[task] == "forward" else [row]
        wanted[task, str(row["id"])] = Entry(row["id"], task, (Answer(None, "0"),) * len(moments))
    if not there & wanted.keys():
        raise AnnotationError(
            f"{predictions} has no question in common with {annotations}; give the annotations of these"
        )
    missing = [entry for name, entry in wanted.items() if name not in there]
    return missing, [f"{task} {id_}" for task, id_ in sorted(there - wanted.keys(), key=str)]


def _notes(metrics: Mapping[str, float]) -> list[str]:
    notes = []
    for group, tasks in ovo.GROUPS.items():
        absent = [task for task in tasks if task not in metrics]
        if absent and len(absent) < len(tasks):
            notes.append(f"{ovo.AVERAGES[group]} is a mean without {', '.join(absent)}, of which there are no results.")
    if ovo.TOTAL not in metrics:
        notes.append(f"There is no {ovo.TOTAL}: it takes results of all three groups.")
    return notes
