"""Judges that tests script, and the files that they grade."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from mmduet.evaluation.judges.judge import Place, Question

PROMPT = "{question}|{gold}|{answer}"


class Scripted:
    """Replies by what it is asked, and keeps count; for use with ``PROMPT``."""

    def __init__(self, replies: Mapping[str, str] | Callable[[str], str], model: str = "scripted") -> None:
        self._replies = replies if callable(replies) else replies.__getitem__
        self._lock, self.asked, self._model = Lock(), list[str](), model

    @property
    def model(self) -> str:
        return self._model

    def reply(self, question: Question) -> str:
        ((_, words),) = question.messages
        with self._lock:
            self.asked.append(words)
        return self._replies(words)


def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT)
    return path


def json_file(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def json_lines(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turns(*said: tuple[float, str], asked: str = "what?") -> list[dict[str, Any]]:
    user = {"time": 0.0, "content": asked, "role": "user"}
    return [user, *({"time": time, "content": text, "role": "assistant"} for time, text in said)]


def predicted(question_id: object, *said: tuple[float, str]) -> dict[str, Any]:
    return {"question_id": question_id, "video_duration": 30.0, "model_response_list": turns(*said), "debug_data": []}


def asked(question_id: object, *answers: tuple[list[float], str], **more: object) -> dict[str, Any]:
    gold = [{"role": "assistant", "content": text, "time": span} for span, text in answers]
    conversation = [{"role": "user", "content": "what?", "time": 0}]
    return {"question_id": question_id, "video": "v.mp4", "conversation": conversation, "answer": gold, **more}


def questions(number: int) -> list[Question]:
    return [Question(Place("q", 0, i), (("user", "x" * (i + 1)),)) for i in range(number)]
