"""MAGQA, multi-answer grounded video questions: the in-span score, with answers graded by a judge.

Source: MMDuet (arXiv 2411.17991) and its evaluator, which works in two steps: a judge grades all pairs of an assistant turn
and a gold answer in whose span it lies, then the grades are averaged. The file between the steps (JSONL with
``evaluator_output`` and ``answer_time``) is read too, as predictions, as judgements, or as both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.spoken import (
    Asked,
    GoldAnswer,
    Id,
    Json,
    Spoken,
    id_of,
    read_asked,
    read_rows,
    span_of,
    spoken_in,
    strangers,
)
from mmduet.evaluation.judges.grading import Judging
from mmduet.evaluation.judges.judge import WORKERS, Judge, Place, Progress, Question
from mmduet.evaluation.judges.prompts import MAGQA, Prompt
from mmduet.evaluation.report import Problem, Report, refuse_problems
from mmduet.metrics import in_span
from mmduet.options import Profile

PAPER_EXAMPLES = 2000  # questions of the test set, as the reference's default has it
READING = {"fixed": "only_one", "paper": "last_character"}
Case = tuple[Asked, Spoken]


@dataclass(frozen=True)
class Padding:
    """Up to how many questions are made up, each with no turns; None: as many as there are."""

    number: int | None
    with_one: bool  # and with a score of 1

    def to(self, values: Sequence[float], there: int, value: float) -> list[float]:
        """``values`` of the ``there`` questions that were looked at, padded."""
        fill = self.with_one and self.number is not None and there < self.number
        return in_span.padded(values, self.number or 0, value) if fill else list(values)


def evaluate(
    predictions: Path,
    annotations: Path | None = None,
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
    baseline_all_match: bool = True,
    pad_with_one: bool = True,
    num_examples: int | None = None,
) -> Report:
    """``in_span`` (1 to 5), ``turns`` and ``distinct_turns`` (means over questions); ``items`` are questions.

    ``judge`` grades, or ``judgements`` (``ReplyFile``) has the grades; ``prompt`` replaces our own. ``reading`` names how a
    reply becomes a grade (``metrics.verdicts.READINGS``). ``baseline_all_match``: a turn at -1 lies in every span, else in
    none. ``seed`` is taken as by all evaluators; nothing here is random.

    Under ``fixed`` every question of the annotations counts: 1 where nothing was answered, and where its prediction is missing
    unless ``pad_with_one`` is off. ``num_examples`` pads further.

    Under ``paper`` questions without an assistant turn are left out, only the first ``num_examples`` (2000) others are read,
    and, with ``pad_with_one``, 1 (turns: 0) stands for as many as are missing to that number. Without
    ``baseline_all_match`` a prediction whose first turn is at -1 is left out as well.

    Raises ``AnnotationError`` for files that cannot be used and, if ``strict``, for any problem; ``OptionError`` where answers
    are to be judged by nobody.
    """
    rows = read_rows(predictions)
    if not judge and not judgements and any("evaluator_output" in row for row in rows):
        judgements = predictions
    wording = Prompt.read(prompt) if prompt else Prompt.own(MAGQA)
    judging = Judging(judge, judgements, wording, reading or READING[profile], in_span.HIGHEST, "1", workers, progress)
    asked = read_asked(annotations) if annotations else _asked_within(rows, predictions)
    if not any(question.answers for question in asked.values()):
        raise AnnotationError(
            f"{annotations or predictions} holds no gold answers; give annotations that say what is due when"
        )
    padding = Padding(_number(num_examples, profile, len(asked)), pad_with_one)
    cases, problems = _cases(rows, predictions, asked, padding, baseline_all_match, profile)
    if strict:
        refuse_problems(problems)
    grades, ungraded = judging.grades(list(_questions(cases, wording, baseline_all_match)))
    problems += ungraded
    if strict:
        refuse_problems(problems)
    items = list(_items(cases, {place: grade or in_span.LOWEST for place, grade in grades.items()}))
    notes = [judging.note(), *_notes(cases, len(asked), padding, profile)]
    if untimed := sum(turn.time == in_span.UNTIMED for _, spoken in cases for turn in spoken.turns):
        notes.append(f"{untimed} turns have no time (-1); they lie in {'every' if baseline_all_match else 'no'} span.")
    return Report("magqa", _metrics(items, padding), items, problems=problems, notes=notes, profile=profile)


def _asked_within(rows: Sequence[Json], path: Path) -> dict[Id, Asked]:
    """The gold spans that MMDuet's evaluator writes beside its grades."""
    asked = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, prediction {number}"
        spans = row.get("answer_time")
        if not isinstance(spans, list) or "evaluator_output" not in row:
            raise AnnotationError(
                f"{where} holds no gold answers (answer_time, evaluator_output); give the annotations"
            )
        found = [span_of(span, where) for span in spans]
        answers = tuple(GoldAnswer("", span, span) for span in found)
        asked[id_of(row, where)] = Asked(id_of(row, where), "", answers)
    return asked


def _number(num_examples: int | None, profile: Profile, questions: int) -> int | None:
    if num_examples is not None and num_examples < 1:
        raise OptionError(f"num_examples is {num_examples}; use 1 or more")
    if profile == "paper":
        return PAPER_EXAMPLES if num_examples is None else num_examples
    if num_examples is not None and num_examples < questions:
        raise OptionError(
            f"num_examples is {num_examples}, and there are {questions} questions, which all count; "
            "leave it out, or use the profile paper"
        )
    return num_examples


def _cases(
    rows: Sequence[Json],
    path: Path,
    asked: Mapping[Id, Asked],
    padding: Padding,
    baseline_all_match: bool,
    profile: Profile,
) -> tuple[list[Case], list[Problem]]:
    """The questions that count, each with what was said, and what is wrong with them."""
    lines, problems = spoken_in(rows, path)
    problems += strangers(lines, asked, path)
    known = {line.id: line for line in lines if line.id in asked}
    if profile == "paper":
        cases = [(asked[line.id], line) for line in _lines_of_paper(known.values(), padding, baseline_all_match)]
    else:
        missing = [id_ for id_ in asked if id_ not in known]
        counted = "1" if padding.with_one else "nothing"
        problems += [Problem(str(id_), "has no prediction", counted) for id_ in missing]
        silent = {id_: Spoken(id_, ()) for id_ in missing if padding.with_one}
        said = {**known, **silent}
        cases = [(question, said[id_]) for id_, question in asked.items() if id_ in said]
    problems += [Problem(str(a.id), "has no gold answers", "left out of in_span") for a, _ in cases if not a.answers]
    return cases, problems


def _lines_of_paper(lines: Iterable[Spoken], padding: Padding, baseline_all_match: bool) -> list[Spoken]:
    """The predictions that the reference looks at."""
    told = [line for line in lines if line.turns][: padding.number]
    if baseline_all_match:
        return told
    return [line for line in told if line.first_time != in_span.UNTIMED]


def _questions(cases: list[Case], prompt: Prompt, baseline_all_match: bool) -> Iterator[Question]:
    for asked, spoken in cases:
        spans = [answer.span for answer in asked.answers]
        for gold, turn in in_span.pairs_in_span(spoken.times, spans, baseline_all_match):
            texts = asked.answers[gold].text, spoken.turns[turn].text
            yield Question(Place(asked.id, gold, turn), prompt.fill(asked.question, *texts), *texts)


def _items(cases: list[Case], grades: Mapping[Place, int]) -> Iterator[Json]:
    by_question: dict[Id, dict[in_span.Pair, float]] = {}
    for place, grade in grades.items():
        by_question.setdefault(place.question_id, {})[place.gold, place.turn] = grade
    for asked, spoken in cases:
        yield {
            "id": asked.id,
            "in_span": in_span.question_score(len(asked.answers), by_question.get(asked.id, {})),
            "turns": len(spoken.turns),
            "distinct_turns": len(set(spoken.texts)),
        }


def _metrics(items: list[Json], padding: Padding) -> dict[str, float]:
    scores = [item["in_span"] for item in items if item["in_span"] == item["in_span"]]  # NaN: no gold answers
    turns, distinct = ([item[name] for item in items] for name in ("turns", "distinct_turns"))
    return {
        "in_span": in_span.mean(padding.to(scores, len(items), in_span.LOWEST)),
        "turns": in_span.mean(padding.to(turns, len(items), 0)),
        "distinct_turns": in_span.mean(padding.to(distinct, len(items), 0)),
    }


def _notes(cases: list[Case], questions: int, padding: Padding, profile: Profile) -> list[str]:
    notes = []
    if silent := sum(not spoken.turns for _, spoken in cases):
        notes.append(f"{silent} of {questions} questions were never answered; each counts 1.")
    if padding.with_one and padding.number and len(cases) < padding.number:
        missing = padding.number - len(cases)
        notes.append(f"{missing} questions that were not looked at count 1, to make {padding.number}.")
    if profile == "paper" and len(cases) < questions:
        notes.append(f"{questions - len(cases)} of {questions} questions are left out (never answered, or not read).")
    return notes
