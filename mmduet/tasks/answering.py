"""Multi-answer grounded question answering: a question about a stream, and its answers with their times; no model, no video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from mmduet.events import Query, Reply
from mmduet.options import Profile, SpeakOptions
from mmduet.tasks.base import Own, Paper, Setting, Watched

FOLD = 5.0  # seconds


@dataclass(frozen=True)
class Answer:
    """``text`` holds from ``start``, when it was first given, to ``end``, when it was given last."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Answers:
    """A question, when it was asked, and its answers in order of their starts."""

    question: str
    asked: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class QuestionAnswering:
    """A question with any number of answers, each given when it becomes true."""

    question: str
    asked: float = 0.0
    profile: Profile = "fixed"
    fold: float = FOLD

    name: ClassVar[str] = "question answering"
    heads: ClassVar[tuple[str, ...]] = ("informative", "relevance")
    paper: ClassVar[Paper] = Paper(2.0, 400, SpeakOptions("threshold", 0.5, ("informative", "relevance")))

    def setting(self, own: Own) -> Setting:
        """The model speaks when it would of itself, once it has been asked."""
        return Setting.of(own, self.paper, self.profile, Query(self.question, self.asked))

    def result(self, watched: Watched) -> Answers:
        """The answers."""
        return Answers(self.question, self.asked, tuple(folded(watched.replies, self.fold)))


def folded(replies: Sequence[Reply], within: float = FOLD) -> list[Answer]:
    """Replies as answers, those without a word left out.

    What is said again within so many seconds of the last time it was said is one answer that lasts, whatever was said in
    between; letter case, spaces and a full stop make no difference.
    """
    answers: list[Answer] = []
    latest: dict[str, int] = {}  # where the latest answer in these words stands
    for reply in sorted(replies, key=lambda reply: reply.time):
        words = _alike(reply.text)
        at = latest.get(words)
        if at is not None and reply.time - answers[at].end <= within:
            answers[at] = replace(answers[at], end=reply.time)
        elif words:
            latest[words] = len(answers)
            answers.append(Answer(reply.time, reply.time, reply.text.strip()))
    return answers


def _alike(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
