"""Proactive answering: PAUC on test sets like those of ProactiveVideoQA, with what was said graded by a judge.

Source: ProactiveVideoQA (arXiv 2507.09313) and its evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks.spoken import (
    Asked,
    Id,
    Json,
    Spoken,
    read_asked,
    read_rows,
    spoken_in,
    strangers,
)
from mmduet.evaluation.judges.grading import Judging
from mmduet.evaluation.judges.judge import WORKERS, Judge, Place, Progress, Question
from mmduet.evaluation.judges.prompts import PROACTIVE, Prompt
from mmduet.evaluation.report import Problem, Report, refuse_problems
from mmduet.metrics import pauc
from mmduet.metrics.in_span import UNTIMED
from mmduet.options import Profile

READING = {"fixed": "only_one", "paper": "first_character"}
HIGHEST_GRADE = 3
NAMES = {omega: f"PAUC@{omega:g}" for omega in pauc.OMEGAS}


@dataclass(frozen=True)
class Case:
    """A gold answer, and the replies that fall into its window: places in ``spoken``, each text once."""

    asked: Asked
    gold: int
    spoken: Spoken
    replies: tuple[int, ...]


def evaluate(
    predictions: Path,
    annotations: Path | None,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    judge: Judge | None = None,
    judgements: Path | None = None,
    prompt: Path | None = None,
    reading: str | None = None,
    workers: int = WORKERS,
    progress: Progress | None = None,
    seed: int = 0,
) -> Report:
    """``PAUC@0``, ``PAUC@0.5``, ``PAUC@1`` and ``duplicate_rate``, all times 100; ``items`` are gold answers.

    PAUC is the mean over all gold answers, not over videos. A question without a prediction counts as silence, 25 for each of
    its gold answers. ``duplicate_rate`` is the share of replies that were said before, word for word, in the same video.

    ``judge`` grades from 1 to 3 all that has been said for a gold answer up to each reply, or ``judgements`` (``ReplyFile``;
    ``turn`` is the reply's place among the assistant's turns) has the grades; ``prompt`` replaces our own. ``reading`` names
    how a reply becomes a grade (``metrics.verdicts.READINGS``); a reply that is no grade gives no point. ``seed`` is taken as
    by all evaluators; nothing here is random.

    ``fixed`` takes replies by time and refuses replies that leave the grade open; ``paper`` takes them in file order and reads
    the first character.

    Raises ``AnnotationError`` for files that cannot be used and, if ``strict``, for any problem; ``OptionError`` where answers
    are to be judged by nobody.
    """
    if annotations is None:
        raise AnnotationError(f"{predictions} does not tell what is to be said when; give the annotations")
    wording = Prompt.read(prompt) if prompt else Prompt.own(PROACTIVE)
    judging = Judging(
        judge, judgements, wording, reading or READING[profile], HIGHEST_GRADE, "no point", workers, progress
    )
    lines, problems = spoken_in(read_rows(predictions), predictions)
    asked = read_asked(annotations)
    problems += strangers(lines, asked, predictions)
    said = {line.id: line for line in lines if line.id in asked}
    problems += _untimed(said)
    problems += [Problem(str(id_), "has no prediction", "silence") for id_ in asked if id_ not in said]
    problems += [Problem(str(a.id), "has no gold answers", "nothing") for a in asked.values() if not a.answers]
    if strict:
        refuse_problems(problems)
    cases = [case for a in asked.values() for case in _cases(a, said.get(a.id, Spoken(a.id, ())), profile)]
    if not cases:
        raise AnnotationError(f"{annotations} holds no gold answers; give annotations that say what is to be said when")
    grades, ungraded = judging.grades([question for case in cases for question in _questions(case, wording)])
    problems += ungraded
    if strict:
        refuse_problems(problems)
    items = [_item(case, grades) for case in cases]
    metrics = {name: sum(item[name] for item in items) / len(items) for name in NAMES.values()}
    metrics["duplicate_rate"] = _duplicate_rate(said)
    return Report("proactive", metrics, items, problems=problems, notes=[judging.note()], profile=profile)


def _untimed(said: Mapping[Id, Spoken]) -> list[Problem]:
    return [
        Problem(str(spoken.id), f"assistant turn {number} has no time (-1)", "a turn outside every span")
        for spoken in said.values()
        for number, turn in enumerate(spoken.turns)
        if turn.time == UNTIMED
    ]


def _cases(asked: Asked, spoken: Spoken, profile: Profile) -> Iterator[Case]:
    order = [place for place, turn in enumerate(spoken.turns) if math.isfinite(turn.time)]
    if profile == "fixed":  # out of order, a reply would be judged together with later ones
        order.sort(key=lambda place: spoken.turns[place].time)
    turns = [spoken.turns[place] for place in order]
    for gold, answer in enumerate(asked.answers):
        places = pauc.in_window([t.time for t in turns], [t.text for t in turns], answer.window)
        yield Case(asked, gold, spoken, tuple(order[place] for place in places))


def _questions(case: Case, prompt: Prompt) -> Iterator[Question]:
    """One for each reply: whether all that has been said up to it tells the gold answer."""
    texts: list[str] = []
    for place in case.replies:
        texts.append(case.spoken.turns[place].text)
        both = case.asked.answers[case.gold].text, " ".join(texts)
        yield Question(Place(case.asked.id, case.gold, place), prompt.fill(case.asked.question, *both), *both)


def _item(case: Case, grades: Mapping[Place, int | None]) -> Json:
    answer = case.asked.answers[case.gold]
    points = []
    for place in case.replies:
        grade = grades[Place(case.asked.id, case.gold, place)]
        if grade is not None:
            points.append(pauc.Point(case.spoken.turns[place].time, grade - 1))
    kept = pauc.without_late_losses(points, answer.span[1])
    areas = {name: 100 * pauc.pauc(kept, answer.window, omega) for omega, name in NAMES.items()}
    return {"id": f"{case.asked.id}#{case.gold}", **areas, "replies": len(case.replies)}


def _duplicate_rate(said: Mapping[Id, Spoken]) -> float:
    replies = sum(len(spoken.turns) for spoken in said.values())
    return 100 * sum(pauc.repeats(spoken.texts) for spoken in said.values()) / replies if replies else 0.0
