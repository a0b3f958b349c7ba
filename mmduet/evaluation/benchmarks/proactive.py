"""Proactive answering: PAUC on test sets like those of ProactiveVideoQA, with replies graded by a judge.

Source: ProactiveVideoQA (arXiv 2507.09313) and its evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.json_files import read_json_rows, rows_by_id
from mmduet.annotations.json_values import Json
from mmduet.annotations.problems import Problem, check_ids_overlap, missing_id_problems, unknown_id_problems
from mmduet.annotations.replies import PredictedReplies, parse_replies, time_problems
from mmduet.annotations.test_sets import AnnotatedQuestion, read_questions
from mmduet.errors import AnnotationError
from mmduet.evaluation.judges.grader import Grader
from mmduet.evaluation.judges.judge import DEFAULT_WORKERS, Judge, JudgedPair, JudgeRequest
from mmduet.evaluation.judges.prompts import PROACTIVE_INSTRUCTION, Prompt
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.metrics import pauc
from mmduet.metrics.in_span import NO_TIME
from mmduet.options import Profile
from mmduet.progress import ProgressCallback

GRADE_PARSER = {"fixed": "only_number", "paper": "first_character"}
MAX_GRADE = 3
NAMES = {omega: f"PAUC@{omega:g}" for omega in pauc.OMEGAS}


@dataclass(frozen=True)
class Case:
    """A gold answer, and the indices of the replies within its window, each text once."""

    question: AnnotatedQuestion
    gold: int
    replies: PredictedReplies
    in_window: tuple[int, ...]


def evaluate(
    predictions: Path,
    annotations: Path | None,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    judge: Judge | None = None,
    judgements: Path | None = None,
    prompt: Path | None = None,
    grade_parser: str | None = None,
    workers: int = DEFAULT_WORKERS,
    progress: ProgressCallback | None = None,
) -> Report:
    """Compute ``PAUC@0``, ``PAUC@0.5``, ``PAUC@1`` and ``duplicate_rate``, all times 100; ``items`` are gold answers.

    PAUC is the mean over all gold answers, not over videos. A question without a prediction counts as silence: 25 for each of
    its gold answers. ``duplicate_rate`` is the share of replies that repeat the text of an earlier reply in the same video.
    Profile ``fixed`` orders replies by time and rejects ambiguous grades; ``paper`` uses the order of the file and the first
    character of the judge's reply.

    Args:
        judge: Grades from 1 to 3 how much of a gold answer all replies so far convey.
        judgements: A file with grades instead (``JudgementFile``); ``turn`` is the index of the reply.
        prompt: A file with the prompt, instead of the built-in one.
        grade_parser: A name in ``metrics.grade_parsers.GRADE_PARSERS``. A reply that is not a grade adds no point.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: answers need grades and there is neither a judge nor a file of judgements.
    """
    if annotations is None:
        raise AnnotationError(f"{predictions} has no gold answers; give the annotations")
    prompt_messages = Prompt.from_file(prompt) if prompt else Prompt.from_instruction(PROACTIVE_INSTRUCTION)
    parser = grade_parser or GRADE_PARSER[profile]
    grader = Grader(judge, judgements, prompt_messages, parser, MAX_GRADE, "no point", workers, progress)
    rows = rows_by_id(read_json_rows(predictions), predictions, "question_id")
    lines = parse_replies(rows, predictions)
    questions = read_questions(annotations)
    check_ids_overlap(rows, questions, predictions, annotations)
    known = {line.id: line for line in lines if line.id in questions}
    problems = [*time_problems(lines), *unknown_id_problems(rows, questions), *_question_problems(known, questions)]
    if strict:
        check_no_problems(problems)
    unpredicted = {key: PredictedReplies(key, ()) for key in questions}
    cases = [case for key, lines in {**unpredicted, **known}.items() for case in _cases(questions[key], lines, profile)]
    if not cases:
        raise AnnotationError(f"{annotations} has no gold answers; give annotations with answers and their time spans")
    grades, ungraded = grader.grade([request for case in cases for request in _requests(case, prompt_messages)])
    problems += ungraded
    if strict:
        check_no_problems(problems)
    items = [_item(case, grades) for case in cases]
    metrics = {name: sum(item[name] for item in items) / len(items) for name in NAMES.values()}
    metrics["duplicate_rate"] = _duplicate_rate(known)
    return Report("proactive", metrics, items, problems=problems, notes=[grader.describe()], profile=profile)


def _question_problems(
    known: Mapping[str, PredictedReplies], questions: Mapping[str, AnnotatedQuestion]
) -> list[Problem]:
    empty = [Problem(q.id, "has no gold answers", "nothing") for q in questions.values() if not q.answers]
    return [*_no_time_problems(known), *missing_id_problems(known, questions, "silence"), *empty]


def _no_time_problems(lines: Mapping[str, PredictedReplies]) -> list[Problem]:
    return [
        Problem(line.id, f"assistant turn {i} has no time (-1)", "a turn outside every span")
        for line in lines.values()
        for i, turn in enumerate(line.turns)
        if turn.time == NO_TIME
    ]


def _cases(question: AnnotatedQuestion, replies: PredictedReplies, profile: Profile) -> Iterator[Case]:
    order = [i for i, turn in enumerate(replies.turns) if math.isfinite(turn.time)]
    if profile == "fixed":  # in file order, a reply could be judged together with later ones
        order.sort(key=lambda i: replies.turns[i].time)
    turns = [replies.turns[i] for i in order]
    for gold, answer in enumerate(question.answers):
        in_window = pauc.replies_in_window([t.time for t in turns], [t.text for t in turns], answer.window)
        yield Case(question, gold, replies, tuple(order[i] for i in in_window))


def _requests(case: Case, prompt: Prompt) -> Iterator[JudgeRequest]:
    """Yield a request per reply: all replies so far against the gold answer."""
    texts: list[str] = []
    question = case.question
    for turn in case.in_window:
        texts.append(case.replies.turns[turn].text)
        both = question.answers[case.gold].text, " ".join(texts)
        yield JudgeRequest(JudgedPair(question.id, case.gold, turn), prompt.fill(question.question, *both), *both)


def _item(case: Case, grades: Mapping[JudgedPair, int | None]) -> Json:
    answer = case.question.answers[case.gold]
    points = []
    for turn in case.in_window:
        grade = grades[JudgedPair(case.question.id, case.gold, turn)]
        if grade is not None:
            points.append(pauc.Point(case.replies.turns[turn].time, grade - 1))
    kept = pauc.drop_late_losses(points, answer.span[1])
    areas = {name: 100 * pauc.pauc(kept, answer.window, omega) for omega, name in NAMES.items()}
    return {"id": f"{case.question.id}#{case.gold}", **areas, "replies": len(case.in_window)}


def _duplicate_rate(lines: Mapping[str, PredictedReplies]) -> float:
    replies = sum(len(line.turns) for line in lines.values())
    return 100 * sum(pauc.count_repeats(line.texts) for line in lines.values()) / replies if replies else 0.0
