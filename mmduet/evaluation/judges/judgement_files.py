"""Read files of judgements that were collected elsewhere, and cache the replies of a judge in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock

from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_id,
    as_list,
    finite_number,
    get_field,
    short_repr,
)
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.judge import Judge, JudgedPair, JudgeRequest
from mmduet.files import LineWriter, read_json_lines

ROW_FORMS = (
    '{"question_id", "gold", "turn", "reply" or "score"}, {"key", "reply"}, '
    'or {"question_id", "evaluator_output"} as written by MMDuet'
)
CACHE_LINE_PREFIX = b'{"key": "'  # of every line that CachedJudge writes


class JudgementFile:
    """Replies of a judge from a JSON-lines file. Each row has one of three forms:

    - ``question_id``, ``gold``, ``turn`` (counted from 0) and ``reply`` (the judge's text) or ``score`` (a whole number);
    - ``key`` (``JudgeRequest.cache_key``), ``reply`` and ``model``, as ``CachedJudge`` writes them;
    - ``question_id`` and ``evaluator_output`` (scores by gold answer and assistant turn), as MMDuet's evaluator writes them.

    Raises:
        AnnotationError: a row has none of these forms, a pair has two different replies, or the rows name several judges.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_pair: dict[JudgedPair, str] = {}
        self._by_key: dict[str, str] = {}
        self._models: set[str] = set()
        if not (rows := read_json_lines(path)):
            raise AnnotationError(f"{path} has no judgements; the form of a row is {ROW_FORMS}")
        for number, row in enumerate(rows, start=1):
            with annotation_errors(f"{path}, row {number}"):
                self._add_row(row)
        if len(self._models) > 1:
            names = ", ".join(sorted(self._models))
            raise AnnotationError(f"{path} has replies of several judges ({names}); keep the rows of one")

    @property
    def model(self) -> str:
        """The model that the rows name, or else the file's name."""
        return next(iter(self._models), self._path.name)

    def reply(self, request: JudgeRequest) -> str:
        """Return the reply for a request's pair, or else for its messages. Raises ``AnnotationError`` if there is none."""
        reply = self._by_pair.get(request.pair, self._by_key.get(request.cache_key(self.model)))
        if reply is None:
            raise AnnotationError(f"{self._path} has no reply for {request.pair}; have it judged and add a row")
        return reply

    def _add_row(self, row: Json) -> None:
        if "evaluator_output" in row:
            self._add_matrix(row)
        elif "key" in row:
            self._models.add(str(row.get("model", "")))
            self._by_key[str(row["key"])] = _parse_reply(row, "reply")
        else:
            pair = JudgedPair(
                as_id(get_field(row, "question_id"), "question_id"),
                _parse_index(row, "gold"),
                _parse_index(row, "turn"),
            )
            self._add_reply(pair, _parse_reply(row, "score" if "score" in row else "reply"))

    def _add_matrix(self, row: Json) -> None:
        question_id = as_id(get_field(row, "question_id"), "question_id")
        for gold, scores in enumerate(as_list(row["evaluator_output"], "evaluator_output")):
            for turn, score in enumerate(as_list(scores, f"evaluator_output {gold}")):
                self._add_reply(JudgedPair(question_id, gold, turn), _parse_reply({"score": score}, "score"))

    def _add_reply(self, pair: JudgedPair, reply: str) -> None:
        if (other := self._by_pair.setdefault(pair, reply)) != reply:
            raise InvalidValueError(f"{pair} has the replies {other!r} and {reply!r}; keep one")


class CachedJudge:
    """A judge whose replies are kept in a file, so that a request is sent only once, by this run or another.

    The file has JSON lines ``{"key", "model", "question_id", "gold", "turn", "reply"}`` and may hold replies of any number of
    judges and prompts, which have different keys. Each line is on disk before its reply is returned, so that an interrupted run
    loses nothing. Empty replies are not kept, because the next attempt may give a text.

    Raises:
        OptionError: the file has other contents, or cannot be written.
    """

    def __init__(self, judge: Judge, path: Path) -> None:
        self._judge, self._path, self._lock = judge, path, Lock()
        self._replies = self._read_replies()

    @property
    def model(self) -> str:
        """The name of the wrapped judge's model."""
        return self._judge.model

    def reply(self, request: JudgeRequest) -> str:
        """Return the reply from the file, or else from the judge."""
        key = request.cache_key(self.model)
        if (cached := self._replies.get(key)) is not None:
            return cached
        reply = self._judge.reply(request)
        if not reply.strip():
            return reply
        pair = request.pair
        row: Json = {
            "key": key,
            "model": self.model,
            "question_id": pair.question_id,
            "gold": pair.gold,
            "turn": pair.turn,
        }
        with self._lock:
            self._append({**row, "reply": reply})
            self._replies[key] = reply
        return reply

    def _append(self, row: Json) -> None:
        with LineWriter(self._path, append=True) as out:
            out.write(json.dumps(row), sync=True)

    def _read_replies(self) -> dict[str, str]:
        """Return the replies by key, and cut off an incomplete last line, which a killed run leaves behind."""
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            complete = data[: data.rfind(b"\n") + 1]
            rows = [json.loads(line) for line in complete.splitlines() if line.strip()]
            replies = {get_field(row, "key"): _parse_reply(row, "reply") for row in rows}
            self._truncate(data[len(complete) :], len(complete))
        except (ValueError, TypeError, OSError) as error:
            message = f"{self._path} is not a file of a judge's replies ({error}); give another path"
            raise OptionError(message) from error
        return {key: reply for key, reply in replies.items() if reply.strip()}

    def _truncate(self, partial_line: bytes, size: int) -> None:
        if not (partial_line.startswith(CACHE_LINE_PREFIX) or CACHE_LINE_PREFIX.startswith(partial_line)):
            raise ValueError("it does not end with a complete line")
        if partial_line:
            os.truncate(self._path, size)


def _parse_index(row: Json, name: str) -> int:
    value = get_field(row, name)
    if (index := finite_number(value)) is None or index != int(index):
        raise InvalidValueError(f"{name} is {short_repr(value)}, expected a whole number from 0 up")
    return int(index)


def _parse_reply(row: Json, name: str) -> str:
    """Return a judge's text, or a score as the text that a judge would have written. Raises ``InvalidValueError``."""
    value = get_field(row, name)
    if isinstance(value, str):
        return value  # also as a score: MMDuet's evaluator may keep the judge's text there
    if (score := finite_number(value)) is not None and score == int(score):
        return str(int(score))
    raise InvalidValueError(f"{name} is {short_repr(value)}, expected the judge's text or a whole number")
