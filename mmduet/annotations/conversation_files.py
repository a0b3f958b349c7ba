"""Read conversations about videos in the form of LLaVA, LLaVA-NeXT-Video and ShareGPT4Video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mmduet.annotations.json_files import read_json_rows
from mmduet.annotations.json_values import (
    InvalidValueError,
    annotation_errors,
    as_objects,
    get_field,
    text_field,
    value_errors,
)
from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.spans import AnnotatedReply, Span

AFTER_VIDEO = math.inf
"""The time of questions and answers of a conversation: after the last frame."""

PLACEHOLDERS = ("<video>", "<image>")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def read_conversations(path: str | Path) -> list[Sample]:
    """Return the samples of ``[{id, video, conversations: [{from: human|gpt, value}, ...]}]``, or of such JSON lines.

    Questions and answers alternate. The placeholder ``<video>`` or ``<image>`` stands for the frames, at the start or the end
    of the first question, and is removed: all frames precede the first question. Raises ``AnnotationError`` naming the entry.
    """
    samples = []
    for i, entry in enumerate(read_json_rows(Path(path), allow_empty=True)):
        with annotation_errors(f"{path}, entry {i}"):
            samples.append(_parse_entry(entry))
    return samples


def _parse_entry(entry: object) -> Sample:
    turns = as_objects(get_field(entry, "conversations"), "conversations")
    texts = []
    for i, turn in enumerate(turns):
        with value_errors(f"turn {i}"):
            texts.append(_parse_turn(turn, expected="assistant" if i % 2 else "user"))
    if not texts or len(texts) % 2:
        raise InvalidValueError(f"conversations has {len(texts)} turns, expected pairs of a question and an answer")
    questions = [_without_placeholder(texts[0]), *texts[2::2]]
    _check_texts([*questions, *texts[1::2]])
    moment = Span(AFTER_VIDEO, AFTER_VIDEO)
    return Sample(
        "conversation",
        text_field(entry, "video"),
        tuple(Query(text, AFTER_VIDEO) for text in questions),
        tuple(AnnotatedReply(AFTER_VIDEO, text, moment) for text in texts[1::2]),
    )


def _parse_turn(turn: object, expected: str) -> str:
    """Return the text of a turn of the ``expected`` speaker."""
    speaker = text_field(turn, "from", "role")
    if SPEAKERS.get(speaker) != expected:
        names = " or ".join(name for name, role in SPEAKERS.items() if role == expected)
        raise InvalidValueError(f"from is {speaker!r}, expected {names}: questions and answers alternate")
    return text_field(turn, "value", "content").strip()


def _without_placeholder(question: str) -> str:
    """Return the first question without the placeholder of the frames."""
    for placeholder in PLACEHOLDERS:
        question = question.removeprefix(placeholder).removesuffix(placeholder)
    return question.strip()


def _check_texts(texts: Sequence[str]) -> None:
    for text in texts:
        if not text:
            raise InvalidValueError("a question or an answer is empty; remove both")
        if any(placeholder in text for placeholder in PLACEHOLDERS):
            raise InvalidValueError(
                f"{' or '.join(PLACEHOLDERS)} is inside {text[:40]!r}, expected at most one, at the start or the end of the "
                "first question"
            )
