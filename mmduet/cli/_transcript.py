"""Collect what a session emits, for the files and the summary that are written at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mmduet.events import (
    Context,
    ContextRead,
    FinishReason,
    Output,
    Query,
    QueryRead,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionWarning,
)
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


class LateTurns:
    """Passes outputs on to a listener, and gives turns for times after the last frame the time of that frame.

    Whether a turn is late is known from what follows it, so it is passed on together with the next output.
    """

    def __init__(self, listen: OutputListener) -> None:
        self._listen, self._last_frame, self._held = listen, 0.0, list[QueryRead | ContextRead]()

    def __call__(self, output: Output) -> None:
        """Pass on one output, and before it the turns that were held back."""
        if isinstance(output, QueryRead | ContextRead) and output.time > self._last_frame:
            self._held.append(output)
            return
        if isinstance(output, SessionWarning):
            self._listen(output)
            return
        for turn in self._held:
            self._listen(turn if isinstance(output, Scores) else replace(turn, time=self._last_frame))
        self._held.clear()
        if isinstance(output, Scores):
            self._last_frame = output.time
        self._listen(output)


def turn_text(turn: Query | Context, read: float) -> str:
    """Return a turn's text, with its requested time in seconds if it was read before, at the end of the video."""
    return f"{turn.text} (requested for {turn.time:.2f} s, after the end)" if turn.time > read else turn.text


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

    def summarize(self, elapsed: float, duration: float | None, dropped: int = 0) -> str:
        """Return one line on what was processed in ``elapsed`` seconds.

        ``duration`` is that of a video that was processed to its end; if it is None, the last scored frame ends what was
        processed. ``dropped`` frames of a live source came while the model was busy.
        """
        from mmduet.tasks.base import stream_end

        frames, replies = len(self.scores), len(self.replies)
        seconds = stream_end([scores.time for scores in self.scores[-2:]]) if duration is None else duration
        speed = seconds / elapsed if elapsed > 0 else 0.0
        late = f"{dropped} late frame{'s' * (dropped != 1)} dropped, " if dropped else ""
        return (
            f"{frames} frame{'s' * (frames != 1)}, {late}{seconds:.2f} s of video, "
            f"{replies} repl{'y' if replies == 1 else 'ies'}, {speed:.1f}x real time"
        )
