"""Collect what a session emits, for the files and the summary that are written at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mmduet.events import FinishReason, Output, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores
from mmduet.text import to_printable

OutputListener = Callable[[Output], None]


@dataclass
class PartialReply:
    """A reply as far as it has been emitted; ``finish`` is None until it is complete."""

    time: float
    text: str = ""
    finish: FinishReason | None = None

    @property
    def display_text(self) -> str:
        """The text on one line, with an ellipsis if it was cut off."""
        return to_printable(self.text).strip() + ("" if self.finish == "stop" else " …")


@dataclass
class Transcript:
    """Scores, queries and replies of a session in the order in which they were emitted."""

    scores: list[Scores] = field(default_factory=list)
    queries: list[QueryRead] = field(default_factory=list)
    replies: list[PartialReply] = field(default_factory=list)

    def add(self, output: Output) -> None:
        """Record one output."""
        match output:
            case Scores():
                self.scores.append(output)
            case QueryRead():
                self.queries.append(output)
            case ReplyStarted(time=time):
                self.replies.append(PartialReply(time))
            case ReplyDelta(text=text):
                self.replies[-1].text += text
            case Reply(time=time, text=text, finish=finish):
                self.replies[-1] = PartialReply(time, text, finish)

    @property
    def duration(self) -> float:
        """The time of the last scored frame in seconds; 0 without frames."""
        return self.scores[-1].time if self.scores else 0.0

    def summarize(self, elapsed: float) -> str:
        """Return one line on what was processed in ``elapsed`` seconds."""
        frames, replies = len(self.scores), len(self.replies)
        speed = self.duration / elapsed if elapsed > 0 else 0.0
        return (
            f"{frames} frame{'s' * (frames != 1)}, {self.duration:.2f} s of video, "
            f"{replies} repl{'y' if replies == 1 else 'ies'}, {speed:.1f}x real time"
        )
