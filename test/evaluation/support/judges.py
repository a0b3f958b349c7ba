"""A scripted judge, and builders of the files that it grades."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from mmduet.evaluation.judges.judge import JudgedPair, JudgeRequest

PROMPT_TEMPLATE = "{question}|{gold}|{answer}"


class ScriptedJudge:
    """A judge that replies by prompt and records the prompts; for use with ``PROMPT_TEMPLATE``."""

    def __init__(self, replies: Mapping[str, str] | Callable[[str], str], model: str = "scripted") -> None:
        self._replies = replies if callable(replies) else replies.__getitem__
        self._lock, self.prompts, self._model = Lock(), list[str](), model

    @property
    def model(self) -> str:
        return self._model

    def reply(self, request: JudgeRequest) -> str:
        ((_, prompt),) = request.messages
        with self._lock:
            self.prompts.append(prompt)
        return self._replies(prompt)


def write_prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT_TEMPLATE)
    return path


def write_json_file(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def write_json_lines(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def conversation_turns(*replies: tuple[float, str], query: str = "what?") -> list[dict[str, Any]]:
    user = {"time": 0.0, "content": query, "role": "user"}
    return [user, *({"time": time, "content": text, "role": "assistant"} for time, text in replies)]


def prediction_line(question_id: object, *replies: tuple[float, str]) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "video_duration": 30.0,
        "model_response_list": conversation_turns(*replies),
        "debug_data": [],
    }


def gold_entry(question_id: object, *answers: tuple[list[float], str], **fields: object) -> dict[str, Any]:
    gold = [{"role": "assistant", "content": text, "time": span} for span, text in answers]
    conversation = [{"role": "user", "content": "what?", "time": 0}]
    return {"question_id": question_id, "video": "v.mp4", "conversation": conversation, "answer": gold, **fields}


def judge_requests(number: int) -> list[JudgeRequest]:
    return [JudgeRequest(JudgedPair("q", 0, i), (("user", "x" * (i + 1)),)) for i in range(number)]
