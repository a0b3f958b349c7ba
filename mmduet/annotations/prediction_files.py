"""The reference's test sets and prediction files: what is asked of which video, and what a model made of it; plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from mmduet.errors import AnnotationError, OptionError
from mmduet.events import Query, Reply, Scores
from mmduet.files import only_one, read_json, read_json_lines, told_as_option, write_text
from mmduet.tasks.base import Own
from mmduet.tasks.prompts import location

Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """One entry of a test set: a video and the turns that a user takes in it."""

    question_id: str | int  # as it was given: scorers join on it
    video: str
    queries: tuple[Query, ...]
    moments: bool = False  # its query is what is looked for, without an instruction to look for it


def instructed(examples: Sequence[Example], own: Own) -> list[Example]:
    """The examples, what is only looked for put into words that a model which is best run as ``own`` says understands."""
    return [
        replace(e, queries=tuple(replace(q, text=location(q.text, own)) for q in e.queries)) if e.moments else e
        for e in examples
    ]


def read_test_set(path: str | Path) -> list[Example]:
    """``[{question_id, video, conversation: [{role, content, time}], ...}]``, or QVHighlights' lines (``.jsonl``).

    Raises ``AnnotationError`` naming the entry.
    """
    if Path(path).suffix == ".jsonl":
        examples = [_highlight(row, f"{path}, line {i}") for i, row in enumerate(read_json_lines(path), 1)]
    else:
        entries: list[Json] = read_json(path, list)
        examples = [_example(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]
    seen: set[str | int] = set()
    for example in examples:
        if example.question_id in seen:
            raise AnnotationError(f"{path}: question_id {example.question_id!r} is there twice; give each its own")
        seen.add(example.question_id)
    return examples


def _highlight(row: Json, where: str) -> Example:
    """QVHighlights names its videos without their ending."""
    try:
        qid, video, query = row["qid"], row["vid"], row["query"]
        if not (isinstance(qid, str | int) and isinstance(video, str) and isinstance(query, str)):
            raise TypeError("qid is a text or a whole number, vid and query are texts")
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{where} cannot be read ({error}); it needs qid, vid and query") from error
    return Example(qid, video if Path(video).suffix == ".mp4" else f"{video}.mp4", (Query(query),), moments=True)


def _example(entry: Json, where: str) -> Example:
    try:
        turns = [turn for turn in entry["conversation"] if turn["role"] == "user"]
        if not all(isinstance(text, str) for text in (entry["video"], *(turn["content"] for turn in turns))):
            raise TypeError("video and content are texts")
        if not isinstance(entry["question_id"], str | int):
            raise TypeError("question_id is a text or a whole number")
        queries = tuple(Query(turn["content"], float(turn["time"])) for turn in turns)
        return Example(entry["question_id"], entry["video"], queries)
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(
            f"{where} cannot be read ({type(error).__name__}: {error}); it needs question_id, video and conversation"
        ) from error


def prediction(
    example: Example,
    duration: float | None,
    scores: Sequence[Scores],
    replies: Sequence[Reply],
    decimals: int | None = None,
) -> Json:
    """A line of a prediction file: turns by time, the user's first; scores to so many ``decimals``, None: as they are.

    ``duration`` is null where the container does not tell it.
    """
    turns = [{"time": q.time, "content": q.text, "role": "user"} for q in example.queries]
    turns += [{"time": r.time, "content": r.text, "role": "assistant"} for r in replies]
    return {
        "question_id": example.question_id,
        "video_duration": duration,
        "model_response_list": sorted(turns, key=lambda turn: turn["time"]),  # stable: user turns stay first
        "debug_data": [
            {
                "time": s.time,
                "informative_score": s.informative if decimals is None else round(s.informative, decimals),
                "relevance_score": s.relevance if decimals is None else round(s.relevance, decimals),
            }
            for s in scores
        ],
    }


def differences(before: str, settings: Json) -> list[str]:
    """Names of settings that are not what they were; ``before`` is JSON, or was once."""
    try:
        known = dict(json.loads(before))
    except (ValueError, TypeError):
        return ["their file is damaged"]
    return [
        name for name in sorted({*known, *settings}) if known.get(name) != json.loads(json.dumps(settings.get(name)))
    ]


def made_for_others(predictions: Path, annotations: Sequence[Path]) -> bool:
    """Whether ``mmduet predict`` made them, and for another test set than any of ``annotations``: ids alone may well agree."""
    beside = settings_of(predictions)
    try:
        known = json.loads(beside.read_text(encoding="utf-8"))["annotations"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(annotations) and known not in [sha256(path.read_bytes()).hexdigest() for path in annotations]


def settings_of(predictions: Path) -> Path:
    """The file that tells what predictions depend on."""
    return predictions.with_name(f"{predictions.name}.settings.json")


class PredictionFile:
    """A file that grows by whole lines; a run that was interrupted goes on where it was.

    ``settings`` are what the predictions depend on; they stand beside the file, and predictions made under others are
    refused with ``OptionError``, as is a file that another run is writing to. Close it, or use it in a ``with``.
    """

    def __init__(self, path: Path, settings: Json) -> None:
        self.path = path
        self._beside = settings_of(path)
        self._lock = only_one(path.with_name(f".{path.name}.lock"), path)
        try:
            self._claim(settings)
            self.done = self._read()
        except OptionError:
            self.close()
            raise

    def add(self, line: Json) -> None:
        """Append one prediction; it is on disk when this returns. Raises ``OptionError`` where that cannot be."""
        with told_as_option(self.path), self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
            out.flush()
            os.fsync(out.fileno())
        self.done.add(line["question_id"])

    def arrange(self, order: Sequence[str | int]) -> None:
        """Put the lines into the order of the test set: they came as they were finished."""
        if not self.path.exists():
            return
        place = {question_id: k for k, question_id in enumerate(order)}
        lines = [line for line in self.path.read_text(encoding="utf-8").split("\n") if line.strip()]
        ordered = sorted(lines, key=lambda line: place.get(json.loads(line)["question_id"], len(place)))
        if ordered != lines:
            write_text(self.path, "".join(f"{line}\n" for line in ordered))

    def close(self) -> None:
        """Others may write to it now."""
        self._lock.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _claim(self, settings: Json) -> None:
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        if not self.path.exists():
            write_text(self._beside, text)
        elif not self._beside.exists():
            raise OptionError(f"{self.path} exists, and was not written by this command; give another --output")
        elif (before := self._beside.read_text(encoding="utf-8")) != text:
            other = ", ".join(differences(before, settings))
            raise OptionError(f"{self.path} was made with other settings ({other}); give another --output")

    def _read(self) -> set[str | int]:
        """The questions answered so far; half a line at the end, of a run that was killed, is cut off."""
        if not self.path.exists():
            return set()
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        try:
            done = {json.loads(line)["question_id"] for line in whole.splitlines() if line.strip()}
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{self.path} is no prediction file ({error}); give another --output") from error
        if len(whole) < len(data):
            with self.path.open("r+b") as out:
                out.truncate(len(whole))
        return done
