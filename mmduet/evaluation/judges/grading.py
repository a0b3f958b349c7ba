"""From answers to grades: who judges (a judge, or a file of judgements), in what words, and how the replies are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.evaluation.judges.files import ROW_FORMS, ReplyFile
from mmduet.evaluation.judges.judge import WORKERS, Judge, Place, Progress, Question, ask, look_up
from mmduet.evaluation.judges.prompts import Prompt
from mmduet.evaluation.report import Problem
from mmduet.metrics.verdicts import READINGS


@dataclass(frozen=True)
class Judging:
    """How answers are graded from 1 to ``highest``. ``reading`` is a name in ``READINGS``; ``ungraded`` says what an answer
    counts as whose reply is no grade. Raises ``OptionError`` for two sources of grades, or an unknown reading."""

    judge: Judge | None
    judgements: Path | None
    prompt: Prompt
    reading: str
    highest: int
    ungraded: str
    workers: int = WORKERS
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse what leaves open who judges, or how replies are read."""
        if self.judge and self.judgements:
            raise OptionError("both a judge and a file of judgements are given; give one of them")
        if self.reading not in READINGS:
            raise OptionError(f"reading is {self.reading!r}; use {', '.join(READINGS)}")

    def grades(self, questions: Sequence[Question]) -> tuple[dict[Place, int | None], list[Problem]]:
        """The grade of every place, None where the reply names none, which is a problem.

        Raises ``OptionError`` where nobody judges although something is to be judged, and what the judge or the file raises.
        """
        replies = self._replies(questions)
        grades = {place: READINGS[self.reading](reply, self.highest) for place, reply in replies.items()}
        problems = [
            Problem(str(place.question_id), f"{place}: the judge's {replies[place]!r:.80} is no grade", self.ungraded)
            for place, grade in grades.items()
            if grade is None
        ]
        return grades, problems

    def note(self) -> str:
        """Where the grades come from."""
        if self.judgements:
            source = f"The grades are those of {self.judgements.name}"
        else:
            source = f"Graded by {self.judge.model} with {self.prompt}" if self.judge else "Nothing was to be graded"
        return f"{source}, read as {self.reading}; absolute numbers depend on judge and prompt."

    def _replies(self, questions: Sequence[Question]) -> dict[Place, str]:
        if self.judgements:
            return look_up(ReplyFile(self.judgements), questions)
        if self.judge:
            return ask(self.judge, questions, workers=self.workers, progress=self.progress)
        if questions:
            raise OptionError(
                f"{len(questions)} answers are to be graded and there is no judge; give --judge URL (an OpenAI-compatible "
                f"endpoint), --judge exact (equal words) or --judgements FILE (JSONL, a row being {ROW_FORMS})"
            )
        return {}
