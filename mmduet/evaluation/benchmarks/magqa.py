"""MAGQA, multi-answer grounded video questions: the in-span score, with answers graded by a judge.

Source: MMDuet (arXiv 2411.17991) and its evaluator, which has two steps: a judge grades every pair of an assistant turn and a
gold answer whose span contains it, then the grades are averaged. The file between the steps (JSON lines with
``evaluator_output`` and ``answer_time``) is accepted, too, as predictions, as judgements, or as both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.json_files import read_json_rows, rows_by_id
from mmduet.annotations.json_values import Json
from mmduet.annotations.magqa_files import has_grades, parse_graded_questions
from mmduet.annotations.problems import Problem, check_ids_overlap, missing_id_problems, unknown_id_problems
from mmduet.annotations.replies import PredictedReplies, parse_replies, time_problems
from mmduet.annotations.test_sets import AnnotatedQuestion, read_questions
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.grader import Grader
from mmduet.evaluation.judges.judge import DEFAULT_WORKERS, Judge, JudgedPair, JudgeRequest
from mmduet.evaluation.judges.prompts import MAGQA_INSTRUCTION, Prompt
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.metrics import in_span
from mmduet.options import Profile
from mmduet.progress import ProgressCallback

PAPER_EXAMPLES = 2000  # default number of questions in MMDuet's evaluator
GRADE_PARSER = {"fixed": "only_number", "paper": "last_character"}
Case = tuple[AnnotatedQuestion, PredictedReplies]


@dataclass(frozen=True)
class Padding:
    """Padding with unanswered questions up to ``size`` questions (None: no padding), if ``with_one``: their score is 1."""

    size: int | None
    with_one: bool

    def apply(self, values: Sequence[float], questions: int, value: float) -> list[float]:
        """Return the values of the evaluated ``questions``, padded with ``value``."""
        is_padded = self.with_one and self.size is not None and questions < self.size
        return in_span.pad(values, self.size or 0, value) if is_padded else list(values)


def evaluate(
    predictions: Path,
    annotations: Path | None = None,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    judge: Judge | None = None,
    judgements: Path | None = None,
    prompt: Path | None = None,
    grade_parser: str | None = None,
    workers: int = DEFAULT_WORKERS,
    progress: ProgressCallback | None = None,
    baseline_all_match: bool = True,
    pad_with_one: bool = True,
    num_examples: int | None = None,
) -> Report:
    """Compute ``in_span`` (1 to 5), ``turns`` and ``distinct_turns`` (means over questions); ``items`` are questions.

    Under profile ``fixed`` every annotated question counts. A question without replies has score 1, and so has one without a
    prediction if ``pad_with_one``. ``num_examples`` adds padding. Under ``paper`` questions without replies are left out, only
    the first ``num_examples`` (2000) others are read, and with ``pad_with_one`` missing ones up to that number count 1 (turns:
    0). Without ``baseline_all_match`` a prediction whose first turn is at -1 is left out as well.

    Args:
        judge: Grades the answers.
        judgements: A file with grades instead (``JudgementFile``).
        prompt: A file with the prompt, instead of the built-in one.
        grade_parser: How a reply of the judge becomes a grade, a name in ``metrics.grade_parsers.GRADE_PARSERS``.
        baseline_all_match: Whether a turn at -1 is in every span, or in none.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: answers need grades and there is neither a judge nor a file of judgements.
    """
    rows = rows_by_id(read_json_rows(predictions), predictions, "question_id")
    if not judge and not judgements and any(map(has_grades, rows.values())):
        judgements = predictions
    prompt_messages = Prompt.from_file(prompt) if prompt else Prompt.from_instruction(MAGQA_INSTRUCTION)
    parser = grade_parser or GRADE_PARSER[profile]
    grader = Grader(judge, judgements, prompt_messages, parser, in_span.MAX_SCORE, "1", workers, progress)
    questions = read_questions(annotations) if annotations else parse_graded_questions(rows, predictions)
    if not any(question.answers for question in questions.values()):
        raise AnnotationError(
            f"{annotations or predictions} has no gold answers; give annotations with answers and their time spans"
        )
    padding = Padding(_padded_size(num_examples, profile, len(questions)), pad_with_one)
    cases, problems = _cases(rows, predictions, questions, padding, baseline_all_match, profile)
    if strict:
        check_no_problems(problems)
    grades, ungraded = grader.grade(list(_requests(cases, prompt_messages, baseline_all_match)))
    problems += ungraded
    if strict:
        check_no_problems(problems)
    items = list(_items(cases, {pair: grade or in_span.MIN_SCORE for pair, grade in grades.items()}))
    notes = [grader.describe(), *_notes(cases, len(questions), padding, profile)]
    notes += _untimed_notes(cases, baseline_all_match)
    return Report("magqa", _metrics(items, padding), items, problems=problems, notes=notes, profile=profile)


def _untimed_notes(cases: Sequence[Case], baseline_all_match: bool) -> Iterator[str]:
    if untimed := sum(turn.time == in_span.NO_TIME for _, replies in cases for turn in replies.turns):
        yield f"{untimed} turns have no time (-1); they count as in {'every' if baseline_all_match else 'no'} span."


def _padded_size(num_examples: int | None, profile: Profile, questions: int) -> int | None:
    if num_examples is not None and num_examples < 1:
        raise OptionError(f"num_examples must be at least 1, got {num_examples}")
    if profile == "paper":
        return PAPER_EXAMPLES if num_examples is None else num_examples
    if num_examples is not None and num_examples < questions:
        raise OptionError(
            f"num_examples must be at least the number of questions, {questions}, got {num_examples}; "
            "leave it out, or use profile paper"
        )
    return num_examples


def _cases(
    rows: Mapping[str, Json],
    path: Path,
    questions: Mapping[str, AnnotatedQuestion],
    padding: Padding,
    baseline_all_match: bool,
    profile: Profile,
) -> tuple[list[Case], list[Problem]]:
    """Return the questions that count, each with its replies, and the problems."""
    lines = parse_replies(rows, path)
    check_ids_overlap(rows, questions, path, "the annotations")
    problems = [*time_problems(lines), *unknown_id_problems(rows, questions)]
    known = {line.id: line for line in lines if line.id in questions}
    if profile == "paper":
        cases = [(questions[line.id], line) for line in _paper_lines(known.values(), padding, baseline_all_match)]
    else:
        missing = missing_id_problems(known, questions, "1" if padding.with_one else "nothing")
        problems += missing
        unanswered = {problem.id: PredictedReplies(problem.id, ()) for problem in missing if padding.with_one}
        lines_by_id = {**known, **unanswered}
        cases = [(question, lines_by_id[name]) for name, question in questions.items() if name in lines_by_id]
    problems += [
        Problem(question.id, "has no gold answers", "left out of in_span")
        for question, _ in cases
        if not question.answers
    ]
    return cases, problems


def _paper_lines(
    lines: Iterable[PredictedReplies], padding: Padding, baseline_all_match: bool
) -> list[PredictedReplies]:
    """Return the predictions that MMDuet's evaluator reads."""
    answered = [line for line in lines if line.turns][: padding.size]
    if baseline_all_match:
        return answered
    return [line for line in answered if line.first_time != in_span.NO_TIME]


def _requests(cases: list[Case], prompt: Prompt, baseline_all_match: bool) -> Iterator[JudgeRequest]:
    for question, replies in cases:
        spans = [answer.span for answer in question.answers]
        for gold, turn in in_span.pairs_in_span(replies.times, spans, baseline_all_match):
            texts = question.answers[gold].text, replies.turns[turn].text
            yield JudgeRequest(JudgedPair(question.id, gold, turn), prompt.fill(question.question, *texts), *texts)


def _items(cases: list[Case], grades: Mapping[JudgedPair, int]) -> Iterator[Json]:
    by_question: dict[str, dict[in_span.Pair, float]] = {}
    for pair, grade in grades.items():
        by_question.setdefault(pair.question_id, {})[pair.gold, pair.turn] = grade
    for question, replies in cases:
        yield {
            "id": question.id,
            "in_span": in_span.question_score(len(question.answers), by_question.get(question.id, {})),
            "turns": len(replies.turns),
            "distinct_turns": len(set(replies.texts)),
        }


def _metrics(items: list[Json], padding: Padding) -> dict[str, float]:
    scores = [item["in_span"] for item in items if item["in_span"] == item["in_span"]]  # NaN: no gold answers
    turns, distinct = ([item[name] for item in items] for name in ("turns", "distinct_turns"))
    return {
        "in_span": in_span.mean(padding.apply(scores, len(items), in_span.MIN_SCORE)),
        "turns": in_span.mean(padding.apply(turns, len(items), 0)),
        "distinct_turns": in_span.mean(padding.apply(distinct, len(items), 0)),
    }


def _notes(cases: list[Case], question_count: int, padding: Padding, profile: Profile) -> list[str]:
    notes = []
    if unanswered := sum(not replies.turns for _, replies in cases):
        notes.append(f"{unanswered} of {question_count} questions have no replies; each counts 1.")
    if padding.with_one and padding.size and len(cases) < padding.size:
        missing = padding.size - len(cases)
        notes.append(f"{missing} questions that were not evaluated count 1, to pad to {padding.size}.")
    if profile == "paper" and len(cases) < question_count:
        notes.append(
            f"{question_count - len(cases)} of {question_count} questions are left out (no replies, or not read)."
        )
    return notes
