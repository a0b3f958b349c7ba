"""A judge's replies in files: those that somebody else collected, and those that a run keeps as it goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock
from typing import Any

from mmduet.annotations.prediction_rows import number
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.judge import Judge, Place, Question
from mmduet.files import read_json_lines

Json = dict[str, Any]
ROW_FORMS = (
    '{"question_id", "gold", "turn", "reply" or "score"}, {"key", "reply"}, '
    'or {"question_id", "evaluator_output"} as MMDuet writes it'
)
ROW_BEGINS = b'{"key": "'  # every line that CachedJudge writes


class ReplyFile:
    """Replies from a JSONL file. A row is of one of three forms, named by its keys:

    - ``question_id``, ``gold``, ``turn`` (counted from 0) and ``reply`` (the judge's words) or ``score`` (a whole number);
    - ``key`` (``Question.key``), ``reply`` and ``model``, as ``CachedJudge`` writes them;
    - ``question_id`` and ``evaluator_output`` (scores, gold answers by assistant turns), as MMDuet's evaluator writes them.

    Raises ``AnnotationError`` naming the row that is of none, and where a place has two different replies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_place: dict[Place, str] = {}
        self._by_key: dict[str, str] = {}
        self._models: set[str] = set()
        if not (rows := read_json_lines(path)):
            raise AnnotationError(f"{path} holds no replies; a row is {ROW_FORMS}")
        for place, row in enumerate(rows, start=1):
            self._take(row, f"{path}, row {place}")
        if len(self._models) > 1:
            names = ", ".join(sorted(self._models))
            raise AnnotationError(f"{path} holds replies of several judges ({names}); keep the rows of one")

    @property
    def model(self) -> str:
        """The model that the rows name, else the file's own name."""
        return next(iter(self._models), self._path.name)

    def reply(self, question: Question) -> str:
        """The reply for a question's place, else for its words. Raises ``AnnotationError`` where there is none."""
        found = self._by_place.get(question.place, self._by_key.get(question.key(self.model)))
        if found is None:
            raise AnnotationError(f"{self._path} has no reply for {question.place}; judge it and add a row")
        return found

    def _take(self, row: Json, where: str) -> None:
        try:
            if "evaluator_output" in row:
                self._take_matrix(row, where)
            elif "key" in row:
                self._models.add(str(row.get("model", "")))
                self._by_key[str(row["key"])] = _words(row, "reply", where)
            else:
                place = Place(str(row["question_id"]), row["gold"], row["turn"])
                self._put(place, _words(row, "score" if "score" in row else "reply", where), where)
        except (KeyError, TypeError) as error:
            raise AnnotationError(
                f"{where} cannot be read ({type(error).__name__}: {error}); it needs {ROW_FORMS}"
            ) from None

    def _take_matrix(self, row: Json, where: str) -> None:
        for gold, scores in enumerate(row["evaluator_output"]):
            for turn, score in enumerate(scores):
                self._put(Place(str(row["question_id"]), gold, turn), _words({"score": score}, "score", where), where)

    def _put(self, place: Place, reply: str, where: str) -> None:
        if self._by_place.setdefault(place, reply) != reply:
            raise AnnotationError(
                f"{where}: {place} was judged {self._by_place[place]!r} before, now {reply!r}; keep one"
            )


class CachedJudge:
    """A judge whose replies are kept: a question that was asked before, by this run or another, is not asked again.

    An empty reply is no reply, and not kept: next time the judge may have words.

    The file is JSONL, ``{"key", "model", "question_id", "gold", "turn", "reply"}``, and holds replies of any number of
    judges and prompts: ``key`` tells them apart. Every line is on disk before its reply is used, so that a run that was
    interrupted has lost nothing. Raises ``OptionError`` for a file of something else.
    """

    def __init__(self, judge: Judge, path: Path) -> None:
        self._judge, self._path, self._lock = judge, path, Lock()
        self._known = self._read()

    @property
    def model(self) -> str:
        """The judge's."""
        return self._judge.model

    def reply(self, question: Question) -> str:
        """From the file, else from the judge."""
        key = question.key(self.model)
        if (known := self._known.get(key)) is not None:
            return known
        reply = self._judge.reply(question)
        if not reply.strip():
            return reply
        place = question.place
        row = {
            "key": key,
            "model": self.model,
            "question_id": place.question_id,
            "gold": place.gold,
            "turn": place.turn,
        }
        with self._lock:
            self._append({**row, "reply": reply})
            self._known[key] = reply
        return reply

    def _append(self, row: Json) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise OptionError(f"{self._path} cannot be written ({error.strerror}); give another path") from error

    def _read(self) -> dict[str, str]:
        """The replies so far; half a line at the end, of a run that was killed, is cut off."""
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            rows = [json.loads(line) for line in whole.splitlines() if line.strip()]
            replies = {row["key"]: _words(row, "reply", str(self._path)) for row in rows}
            known = {key: reply for key, reply in replies.items() if reply.strip()}
            self._cut(data[len(whole) :], len(whole))
        except (ValueError, KeyError, TypeError, AnnotationError, OSError) as error:
            raise OptionError(f"{self._path} is no file of a judge's replies ({error}); give another path") from error
        return known

    def _cut(self, torn: bytes, place: int) -> None:
        if not (torn.startswith(ROW_BEGINS) or ROW_BEGINS.startswith(torn)):
            raise ValueError("it ends in the middle of something else")
        if torn:
            os.truncate(self._path, place)


def _words(row: Json, name: str, where: str) -> str:
    """A reply as it is, or a score as the digit that a judge would have written."""
    value = row[name]
    if name == "reply" and isinstance(value, str):
        return value
    if isinstance(value, str):
        return value  # MMDuet's evaluator may leave a judge's words where a score belongs
    if (score := number(value)) is not None and score == int(score):
        return str(int(score))
    raise AnnotationError(f"{where}: {name} is {value!r}; write the judge's words, or a whole number")
