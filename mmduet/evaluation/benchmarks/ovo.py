"""OVO-Bench: accuracy in twelve tasks of online video understanding, from the benchmark's result files.

Source: OVO-Bench (arXiv 2501.05510) and its scorer. The format of result files is described in ``annotations.ovo_files``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmduet.annotations import ovo_files
from mmduet.annotations.json_values import Json
from mmduet.annotations.ovo_files import COUNTING_TASK, GROUP_OF_TASK, TASKS_OF_GROUP, OvoAnswer, OvoEntry
from mmduet.annotations.problems import Problem
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.metrics import ovo
from mmduet.options import Profile


def evaluate(
    predictions: Path,
    annotations: Path | None = None,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
) -> Report:
    """Compute the accuracy times 100 of tasks (``EPM`` ...), groups (``Backward``, ``Realtime``, ``Forward``) and ``Total``.

    A group is the mean over its present tasks; ``Total`` requires all three groups. ``items`` are questions, with ``accuracy``.
    Profile ``fixed`` parses the option, number, Yes or No of a response; ``paper`` follows the rules of the original scorer
    (``metrics.ovo``).

    Args:
        predictions: A result file, or a folder of result files, which are pooled.
        annotations: The benchmark's list of questions, optional. Questions without a result are then problems and, under
            ``fixed``, wrong.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
    """
    entries = ovo_files.read_results(predictions)
    problems = [*_repeated_id_problems(entries), *_answer_problems(entries, profile)]
    if annotations:
        missing, unknown = _compare_ids(entries, annotations, predictions)
        counted_as = "wrong" if profile == "fixed" else "nothing"
        problems += [Problem(name, "is not in the annotations", "any other question") for name in unknown]
        problems += [Problem(f"{entry.task} {entry.id}", "has no result", counted_as) for entry in missing]
        entries += missing if profile == "fixed" else []
    if strict:
        check_no_problems(problems)
    items = [_item(entry, profile) for entry in entries]
    tasks = {task: _accuracy(task, entries, profile) for task in GROUP_OF_TASK if any(e.task == task for e in entries)}
    metrics = {task: value for task, value in tasks.items() if value == value}  # NaN: no entry of the task has a moment
    metrics |= ovo.group_averages(metrics, TASKS_OF_GROUP)
    return Report("ovo", metrics, items, problems=problems, notes=_notes(metrics), profile=profile)


def _repeated_id_problems(entries: Sequence[OvoEntry]) -> list[Problem]:
    """Return a problem for each id that several entries share, as in some published results; the scorer counts each."""
    counts = Counter((entry.task, entry.id) for entry in entries)
    return [
        Problem(f"{task} {entry_id}", f"is listed {count} times", "separate questions")
        for (task, entry_id), count in counts.items()
        if count > 1
    ]


def _answer_problems(entries: Sequence[OvoEntry], profile: Profile) -> Iterator[Problem]:
    for entry in entries:
        name = f"{entry.task} {entry.id}"
        if not entry.answers:
            yield Problem(name, "has no moments in test_info", "nothing")
        for answer in entry.answers:
            if answer.response is None:
                yield Problem(name, "has no response", "wrong")
            elif profile == "fixed" and parse_answer(entry.task, answer.response) is None:
                yield Problem(name, f"has an ambiguous response: {answer.response!r:.80}", "wrong")


def parse_answer(task: str, response: str) -> str | float | None:
    """Return the option's letter, Yes, No or the number that a response gives; None for no answer or an ambiguous one."""
    if GROUP_OF_TASK[task] != "forward":
        return ovo.chosen_option(response)
    return ovo.stated_number(response) if task == COUNTING_TASK else ovo.stated_yes_no(response)


def _is_correct(task: str, answer: OvoAnswer, profile: Profile) -> bool:
    if answer.response is None:
        return False
    if profile == "fixed":
        answered = parse_answer(task, answer.response)
        return answered == (float(answer.gold) if task == COUNTING_TASK else answer.gold)
    if GROUP_OF_TASK[task] != "forward":
        return ovo.contains_letter(answer.response, answer.gold)
    if task == COUNTING_TASK:
        return ovo.join_digits(answer.response) == answer.gold
    return ovo.contains_yes_no(answer.response, answer.gold)


def _item(entry: OvoEntry, profile: Profile) -> Json:
    correct = [_is_correct(entry.task, answer, profile) for answer in entry.answers]
    return {"id": entry.id, "task": entry.task, "accuracy": 100 * ovo.accuracy(correct), "answers": len(correct)}


def _accuracy(task: str, entries: Sequence[OvoEntry], profile: Profile) -> float:
    """Return the accuracy of a task over all its answers, the moments of all questions pooled."""
    return 100 * ovo.accuracy(
        [_is_correct(task, answer, profile) for entry in entries if entry.task == task for answer in entry.answers]
    )


def _compare_ids(entries: Sequence[OvoEntry], annotations: Path, predictions: Path) -> tuple[list[OvoEntry], list[str]]:
    """Return the annotated questions without a result, and the names of results that are not annotated."""
    predicted = {(entry.task, str(entry.id)) for entry in entries}
    annotated = {(entry.task, str(entry.id)): entry for entry in ovo_files.read_questions(annotations)}
    if not predicted & annotated.keys():
        raise AnnotationError(
            f"{predictions} and {annotations} have no question in common; give the annotations of these predictions"
        )
    missing = [entry for name, entry in annotated.items() if name not in predicted]
    return missing, [f"{task} {entry_id}" for task, entry_id in sorted(predicted - annotated.keys(), key=str)]


def _notes(metrics: Mapping[str, float]) -> list[str]:
    notes = []
    for group, tasks in TASKS_OF_GROUP.items():
        absent = [task for task in tasks if task not in metrics]
        if absent and len(absent) < len(tasks):
            notes.append(f"{ovo.average_name(group)} does not include {', '.join(absent)}, which have no results.")
    if ovo.TOTAL not in metrics:
        notes.append(f"{ovo.TOTAL} is missing: it requires results of all three groups.")
    return notes
