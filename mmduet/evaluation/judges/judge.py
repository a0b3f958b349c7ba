"""Query a judge for grades of answers: each distinct request once, several at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from hashlib import sha256
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.prompts import Messages
from mmduet.progress import ProgressCallback

DEFAULT_WORKERS = 8


@dataclass(frozen=True)
class JudgedPair:
    """An assistant turn of a prediction and the gold answer that it is compared with.

    Both are counted from 0; ``turn`` does not count user turns.
    """

    question_id: str
    gold: int
    turn: int

    def __str__(self) -> str:
        """Return the form used in messages."""
        return f"question_id {self.question_id!r}, gold answer {self.gold}, assistant turn {self.turn}"


@dataclass(frozen=True)
class JudgeRequest:
    """A request to grade one pair: ``messages`` contain the ``gold`` text and the ``answer``."""

    pair: JudgedPair
    messages: Messages
    gold: str = ""
    answer: str = ""

    def cache_key(self, model: str) -> str:
        """Return the SHA-256 of ``model`` and the messages, in hexadecimal."""
        return sha256(json.dumps([model, self.messages]).encode()).hexdigest()


class Judge(Protocol):
    """Replies to requests. It is called from several threads at once."""

    @property
    def model(self) -> str:
        """The name of the model that judges."""
        ...

    def reply(self, request: JudgeRequest) -> str:
        """Return the judge's text. Raises an ``MmduetError`` if there is none."""
        ...


class ExactJudge:
    """A judge without a model: ``max_grade`` for an answer that contains the gold text, ignoring case and spacing; else 1.

    It suits data whose answers have exact wording, such as scenes, and does not suit free text.
    """

    model = "exact"

    def __init__(self, max_grade: int) -> None:
        self._max_grade = max_grade

    def reply(self, request: JudgeRequest) -> str:
        """Return the grade as text."""
        gold, answer = (" ".join(text.lower().split()) for text in (request.gold, request.answer))
        return str(self._max_grade if gold and gold in answer else 1)


def query_judge(
    judge: Judge,
    requests: Sequence[JudgeRequest],
    *,
    workers: int = DEFAULT_WORKERS,
    progress: ProgressCallback | None = None,
) -> dict[JudgedPair, str]:
    """Return the reply for every pair; requests with the same messages are sent once.

    At most ``workers`` requests run at a time. ``progress`` is called with the number of replies so far and of all. If this
    ends early (by the judge's error or Ctrl-C), requests that were not started are dropped, and running ones are not waited
    for.
    """
    if workers < 1:
        raise OptionError(f"workers must be at least 1, got {workers}")
    queue: SimpleQueue[JudgeRequest] = SimpleQueue()
    futures: dict[Messages, Future[str]] = {}
    for request in requests:
        if request.messages not in futures:
            futures[request.messages] = Future()
            queue.put(request)
    try:
        for _ in range(min(workers, len(futures))):  # daemon threads: the interpreter would wait for those of a pool
            Thread(target=_run_worker, args=(judge, queue, futures), name="judge", daemon=True).start()
        for done, future in enumerate(as_completed(futures.values()), start=1):
            future.result()
            if progress:
                progress(done, len(futures))
    finally:
        for future in futures.values():
            future.cancel()
    return {request.pair: futures[request.messages].result() for request in requests}


def _run_worker(judge: Judge, queue: SimpleQueue[JudgeRequest], futures: Mapping[Messages, Future[str]]) -> None:
    while True:
        try:
            request = queue.get_nowait()
        except Empty:
            return
        future = futures[request.messages]
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(judge.reply(request))
            except BaseException as error:  # noqa: BLE001 - raised again by future.result()
                future.set_exception(error)


def lookup_replies(judgements: Judge, requests: Sequence[JudgeRequest]) -> dict[JudgedPair, str]:
    """Return the reply for every pair from a file of judgements.

    Raises ``AnnotationError`` with the number of missing replies and the first of them.
    """
    replies: dict[JudgedPair, str] = {}
    missing: list[str] = []
    for request in requests:
        try:
            replies[request.pair] = judgements.reply(request)
        except AnnotationError as error:
            missing.append(str(error))
    if missing:
        raise AnnotationError(f"{len(missing)} of {len(requests)} answers have no judgement; the first: {missing[0]}")
    return replies
