"""Multi-answer grounded question answering: one question about a stream, any number of answers with times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mmduet.errors import OptionError
from mmduet.events import Query, Reply
from mmduet.options import Profile, SpeakOptions
from mmduet.tasks.base import ModelDefaults, PaperConfig, RunConfig, StreamResult

MERGE_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """An answer that was first given at ``start`` and last repeated at ``end``, in seconds."""

    start: float
    end: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return {"start": self.start, "end": self.end, "text": self.text}


@dataclass(frozen=True)
class Answers:
    """A question, the time at which it was asked, and its answers in order of their starts."""

    question: str
    time: float
    answers: tuple[Answer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        answers = [answer.to_dict() for answer in self.answers]
        return {"question": self.question, "asked": self.time, "answers": answers}


@dataclass(frozen=True)
class QuestionAnswering:
    """Ask ``question`` at ``time``; each answer is given when it becomes true.

    Equal answers at most ``merge_seconds`` apart are merged into one.

    Raises:
        OptionError: ``time`` is negative or not finite.
    """

    question: str
    time: float = 0.0
    profile: Profile = "fixed"
    merge_seconds: float = MERGE_SECONDS

    name: ClassVar[str] = "question answering"
    heads: ClassVar[tuple[str, ...]] = ("informative", "relevance")
    paper: ClassVar[PaperConfig] = PaperConfig(2.0, 400, SpeakOptions("threshold", 0.5, ("informative", "relevance")))

    def __post_init__(self) -> None:
        """Check ``time``."""
        if not 0 <= self.time < math.inf:
            raise OptionError(f"time must be a number of seconds from 0 up, got {self.time}")

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return a configuration in which the model speaks by its own policy."""
        return RunConfig.from_defaults(defaults, self.paper, self.profile, Query(self.question, self.time))

    def result(self, stream: StreamResult) -> Answers:
        """Return the answers."""
        return Answers(self.question, self.time, tuple(merge_repeats(stream.replies, self.merge_seconds)))


def merge_repeats(replies: Sequence[Reply], max_gap_seconds: float = MERGE_SECONDS) -> list[Answer]:
    """Turn replies into answers; a text repeated within ``max_gap_seconds`` extends its answer.

    Other replies may lie between the repetitions. Letter case, spaces and a final full stop are ignored in the comparison.
    Replies without words are dropped.
    """
    answers: list[Answer] = []
    latest: dict[str, int] = {}  # index of the latest answer with this text
    for reply in sorted(replies, key=lambda reply: reply.time):
        key = _normalize(reply.text)
        index = latest.get(key)
        if index is not None and reply.time - answers[index].end <= max_gap_seconds:
            answers[index] = replace(answers[index], end=reply.time)
        elif key:
            latest[key] = len(answers)
            answers.append(Answer(reply.time, reply.time, reply.text.strip()))
    return answers


def _normalize(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
