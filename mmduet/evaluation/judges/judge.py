"""Asking a judge how good answers are: each question once, several at a time; knows no benchmark and no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from hashlib import sha256
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.prompts import Messages

Progress = Callable[[int, int], None]
WORKERS = 8


@dataclass(frozen=True)
class Place:
    """Where an answer stands that is to be judged: assistant turn ``turn`` of a prediction against gold answer ``gold``.

    Both are counted from 0, user turns left out.
    """

    question_id: str
    gold: int
    turn: int

    def __str__(self) -> str:
        """As messages name it."""
        return f"question_id {self.question_id!r}, gold answer {self.gold}, assistant turn {self.turn}"


@dataclass(frozen=True)
class Question:
    """What a judge is asked about one place: ``messages``, which hold the ``gold`` text and the ``answer``."""

    place: Place
    messages: Messages
    gold: str = ""
    answer: str = ""

    def key(self, model: str) -> str:
        """The same for the same words to the same judge: SHA-256, in hexadecimal, of both."""
        return sha256(json.dumps([model, self.messages]).encode()).hexdigest()


class Judge(Protocol):
    """Whoever answers questions; called from several threads at once."""

    @property
    def model(self) -> str:
        """Whose opinion it is: the name of a model."""
        ...

    def reply(self, question: Question) -> str:
        """The judge's words; raises an ``MmduetError`` where there are none to be had."""
        ...


class ExactJudge:
    """No model: ``highest`` for an answer that holds the gold text, whatever its case and spaces; else 1.

    For data whose words are exact, as those of scenes are; of people's words it would be a poor judge.
    """

    model = "exact"

    def __init__(self, highest: int) -> None:
        self._highest = highest

    def reply(self, question: Question) -> str:
        """By comparing texts."""
        gold, answer = (" ".join(text.lower().split()) for text in (question.gold, question.answer))
        return str(self._highest if gold and gold in answer else 1)


def ask(
    judge: Judge, questions: Sequence[Question], *, workers: int = WORKERS, progress: Progress | None = None
) -> dict[Place, str]:
    """The reply for every place; questions of the same words are asked once.

    At most ``workers`` are under way at a time; ``progress`` hears how many of how many are done. Whatever ends this early
    (the judge's error, Ctrl-C) leaves what was not yet begun unasked, and waits for nothing.
    """
    if workers < 1:
        raise OptionError(f"workers is {workers}; use 1 or more")
    todo: SimpleQueue[Question] = SimpleQueue()
    futures: dict[Messages, Future[str]] = {}
    for question in questions:
        if question.messages not in futures:
            futures[question.messages] = Future()
            todo.put(question)
    try:
        for _ in range(min(workers, len(futures))):  # daemons: the interpreter would wait for a pool's threads
            Thread(target=_work, args=(judge, todo, futures), name="judge", daemon=True).start()
        for done, future in enumerate(as_completed(futures.values()), start=1):
            future.result()
            if progress:
                progress(done, len(futures))
    finally:
        for future in futures.values():
            future.cancel()
    return {question.place: futures[question.messages].result() for question in questions}


def _work(judge: Judge, todo: SimpleQueue[Question], futures: Mapping[Messages, Future[str]]) -> None:
    while True:
        try:
            question = todo.get_nowait()
        except Empty:
            return
        future = futures[question.messages]
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(judge.reply(question))
            except BaseException as error:  # noqa: BLE001 - raised again where the future is asked
                future.set_exception(error)


def look_up(replies: Judge, questions: Sequence[Question]) -> dict[Place, str]:
    """The reply for every place from a file of them, each by itself; one ``AnnotationError`` for all that are missing."""
    found: dict[Place, str] = {}
    missing: list[str] = []
    for question in questions:
        try:
            found[question.place] = replies.reply(question)
        except AnnotationError as error:
            missing.append(str(error))
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(questions)} answers have not been judged; the first: {missing[0]}"
        )
    return found
