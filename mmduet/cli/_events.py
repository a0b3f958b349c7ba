"""Knows what a run has told so far and how it is written, never half a line or half a file; nothing of screens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmduet.events import FinishReason, Output, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores
from mmduet.files import told_as_option

UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # Persian and joined emoji are written with them
Listener = Callable[[Output], None]


@dataclass
class Said:
    """A reply as far as it was written; ``finish`` is None while it is not over."""

    time: float
    text: str = ""
    finish: FinishReason | None = None

    @property
    def shown(self) -> str:
        """The text on one line, and an ellipsis where it was cut."""
        return printable(self.text).strip() + ("" if self.finish == "stop" else " …")


@dataclass
class Story:
    """Everything that was told, kept for what is drawn and written at the end."""

    scores: list[Scores] = field(default_factory=list)
    queries: list[QueryRead] = field(default_factory=list)
    replies: list[Said] = field(default_factory=list)

    def add(self, output: Output) -> None:
        """Take note of one output."""
        match output:
            case Scores():
                self.scores.append(output)
            case QueryRead():
                self.queries.append(output)
            case ReplyStarted(time=time):
                self.replies.append(Said(time))
            case ReplyDelta(text=text):
                self.replies[-1].text += text
            case Reply(time=time, text=text, finish=finish):
                self.replies[-1] = Said(time, text, finish)

    @property
    def duration(self) -> float:
        """The time of the last frame that was scored."""
        return self.scores[-1].time if self.scores else 0.0


def printable(text: str) -> str:
    """The text on one line without control characters: a model's words do not get to steer a terminal."""
    return "".join(
        char if char.isprintable() or char in JOINERS else " " if char.isspace() else UNPRINTABLE for char in text
    )


def to_json(output: Output) -> str:
    """One output as a JSON object on one line; ``type`` is the event's name in snake case."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(output).__name__).lower()
    return json.dumps({"type": name, **asdict(output)}, ensure_ascii=False)


@contextmanager
def json_lines(path: Path | None) -> Iterator[Listener]:
    """Writes each output to ``path`` as it comes, each line at once; to nowhere without a path."""
    if path is None:
        yield lambda output: None
        return
    with told_as_option(path):
        file = path.open("w", buffering=1, encoding="utf-8")

    def write(output: Output) -> None:
        with told_as_option(path):
            file.write(to_json(output) + "\n")

    try:
        yield write
    finally:
        with told_as_option(path):
            file.close()
