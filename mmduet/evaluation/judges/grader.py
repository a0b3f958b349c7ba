"""Turn answers into grades: query a judge or read its judgements from a file, and parse the replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.problems import Problem
from mmduet.errors import OptionError
from mmduet.evaluation.judges.judge import (
    DEFAULT_WORKERS,
    Judge,
    JudgedPair,
    JudgeRequest,
    lookup_replies,
    query_judge,
)
from mmduet.evaluation.judges.judgement_files import ROW_FORMS, JudgementFile
from mmduet.evaluation.judges.prompts import Prompt
from mmduet.metrics.grade_parsers import GRADE_PARSERS
from mmduet.progress import ProgressCallback


@dataclass(frozen=True)
class Grader:
    """How answers are graded, from 1 to ``max_grade``.

    Attributes:
        judge: Replies to requests, or None.
        judgements: A file with the judge's replies, instead of a judge.
        prompt: The messages that are sent to the judge.
        grade_parser: How a reply becomes a grade, a name in ``GRADE_PARSERS``.
        ungraded_counted_as: What an answer counts as whose reply is not a grade, for the report.

    Raises:
        OptionError: both a judge and a file are given, or ``grade_parser`` is unknown.
    """

    judge: Judge | None
    judgements: Path | None
    prompt: Prompt
    grade_parser: str
    max_grade: int
    ungraded_counted_as: str
    workers: int = DEFAULT_WORKERS
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.judge and self.judgements:
            raise OptionError("a judge and a file of judgements cannot be used together; give one of them")
        if self.grade_parser not in GRADE_PARSERS:
            raise OptionError(f"grade_parser must be one of {', '.join(GRADE_PARSERS)}, got {self.grade_parser!r}")

    def grade(self, requests: Sequence[JudgeRequest]) -> tuple[dict[JudgedPair, int | None], list[Problem]]:
        """Return the grade of every pair, and a problem for each reply that is not a grade (None).

        Raises:
            OptionError: there are requests, but neither a judge nor a file of judgements.
            MmduetError: the judge fails, or the file lacks a reply.
        """
        replies, parse = self._query(requests), GRADE_PARSERS[self.grade_parser]
        grades = {pair: parse(reply, self.max_grade) for pair, reply in replies.items()}
        problems = [
            Problem(
                pair.question_id,
                f"{pair}: the judge's reply {replies[pair]!r:.80} is not a grade",
                self.ungraded_counted_as,
            )
            for pair, grade in grades.items()
            if grade is None
        ]
        return grades, problems

    def describe(self) -> str:
        """Return a note on the source of the grades."""
        if self.judgements:
            source = f"Grades were read from {self.judgements.name}"
        elif self.judge:
            source = f"Answers were graded by {self.judge.model} with {self.prompt}"
        else:
            source = "There was nothing to grade"
        return f"{source} (replies parsed as {self.grade_parser}); absolute numbers depend on the judge and the prompt."

    def _query(self, requests: Sequence[JudgeRequest]) -> dict[JudgedPair, str]:
        if self.judgements:
            return lookup_replies(JudgementFile(self.judgements), requests)
        if self.judge:
            return query_judge(self.judge, requests, workers=self.workers, progress=self.progress)
        if requests:
            raise OptionError(
                f"{len(requests)} answers need a judge; give --judge URL (an OpenAI-compatible endpoint), --judge exact "
                f"(comparison of texts) or --judgements FILE (JSON lines of the form {ROW_FORMS})"
            )
        return {}
