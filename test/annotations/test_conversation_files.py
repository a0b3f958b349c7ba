"""Conversations about videos: the placeholder of the frames, alternating turns, and errors that name entry and turn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mmduet.annotations.conversation_files import read_conversations
from mmduet.errors import AnnotationError


def entry(*texts: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(texts)]
    return {"id": 1, "video": "a.mp4", "conversations": turns, **fields}


def write(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps(list(entries)))
    return path


@pytest.mark.parametrize(
    "question", ["<video>\nwhat?", "<image>\nwhat?", "what?\n<video>", "what? <image>", "what?", " <video> what? "]
)
def test_frames_precede_the_questions_wherever_the_placeholder_is(tmp_path: Path, question: str) -> None:
    (sample,) = read_conversations(write(tmp_path / "x.json", entry(question, "this", "and?", "that ")))
    assert (sample.kind, sample.video, sample.spans) == ("conversation", "a.mp4", ())
    assert [query.text for query in sample.queries] == ["what?", "and?"]
    assert [answer.text for answer in sample.answers] == ["this", "that"]
    assert all(turn.time == math.inf for turn in (*sample.queries, *sample.answers))
    assert all(answer.learn for answer in sample.answers)


def test_json_lines_and_names_of_the_openai_format_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    turns = [{"role": "user", "content": "<video>what?"}, {"role": "assistant", "content": "this"}]
    path.write_text(f"{json.dumps({'video': 'a', 'conversations': turns})}\n{json.dumps(entry('b', 'c'))}\n")
    assert [(s.video, s.queries[0].text, s.answers[0].text) for s in read_conversations(path)] == [
        ("a", "what?", "this"),
        ("a.mp4", "b", "c"),
    ]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (entry("a"), "conversations has 1 turns, expected pairs of a question and an answer"),
        (entry(), "conversations has 0 turns"),
        (
            entry("a", "b") | {"conversations": [{"from": "gpt", "value": "b"}]},
            "turn 0: from is 'gpt', expected human or",
        ),
        (
            {"video": "v", "conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]},
            "turn 1: from is 'human', expected gpt or assistant",
        ),
        (entry("<video>", "b"), "a question or an answer is empty"),
        (entry("a", " "), "a question or an answer is empty"),
        (entry("see <video> now", "b"), "<video> or <image> is inside 'see <video> now'"),
        (entry("<video>a", "b", "<video>c", "d"), "<video> or <image> is inside '<video>c'"),
        (entry("<video><video>a", "b"), "<video> or <image> is inside '<video>a'"),
        ({"conversations": entry("a", "b")["conversations"]}, "missing video"),
        ({"video": "v"}, "missing conversations"),
        (entry("a", "b", conversations=[3, 4]), "conversations, number 0, is 3, expected an object"),
        (entry("a", "b", conversations=[{"from": "human"}, {}]), "turn 0: missing one of value, content"),
    ],
)
def test_invalid_entries_are_rejected(tmp_path: Path, bad: Any, error: str) -> None:
    with pytest.raises(AnnotationError, match="entry 1") as caught:
        read_conversations(write(tmp_path / "x.json", entry("a", "b"), bad))
    assert error in str(caught.value)
