"""What can stand on a session's timeline; plain frozen values that know nothing of models, files or sockets.

All times are seconds from the start of the stream. Inputs (``Frame``, ``Query``, ``Context``) are what sources and clients
write; outputs (``Scores``, ``ReplyStarted``, ``ReplyDelta``, ``Reply``) are what the engine writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mmduet.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of the stream.

    ``index`` counts the frames handed to the engine, ``time`` is the presentation time, ``image`` is RGB
    ``uint8 [H, W, 3]``, ``decoded_index`` is the place in the source before sampling.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    decoded_index: int = -1


@dataclass(frozen=True)
class Query:
    """A user turn, to be read when the stream has reached ``time``."""

    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Context:
    """A system turn inside the stream: a transcript line, a cast list, a catalogue hit; ``keep`` pins it in the window."""

    text: str
    time: float = 0.0
    keep: bool = False


@dataclass(frozen=True)
class AssistantTurn:
    """An assistant's turn that was said before: history that the model is to know of."""

    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Scores:
    """The two heads after one frame, each a probability, and what the policy made of them."""

    frame: int
    time: float
    informative: float
    relevance: float
    speak: bool = False


@dataclass(frozen=True)
class QueryRead:
    """The user turn is now part of what the model has seen."""

    query: Query
    time: float


@dataclass(frozen=True)
class ContextRead:
    """The context turn is now part of what the model has seen."""

    context: Context
    time: float


@dataclass(frozen=True)
class ReplyStarted:
    """The model begins to speak after the frame at ``time``; frame -1 where there has been none."""

    reply: int
    frame: int
    time: float
    forced: bool = False


@dataclass(frozen=True)
class ReplyDelta:
    """More text of a reply; the deltas of a reply joined are its text."""

    reply: int
    text: str


@dataclass(frozen=True)
class Reply:
    """A finished reply; ``time`` is that of the frame which set it off, ``context_tokens`` how many were in view then."""

    reply: int
    frame: int
    time: float
    text: str
    tokens: int
    finish: FinishReason
    forced: bool = False
    context_tokens: int = 0


@dataclass(frozen=True)
class StreamEnded:
    """Every frame was scored and every turn answered; ``duration`` is the time of the last frame."""

    frames: int
    duration: float


@dataclass(frozen=True)
class SessionFailed:
    """The session could not go on and is closed; other sessions are not touched. ``code`` is that of the error tree."""

    code: str
    message: str
    exit_status: int

    def as_error(self) -> EngineError:
        """The error that it was, with its code and exit status, for those who would rather raise."""
        error = EngineError(self.message)
        error.code, error.exit_status = self.code, self.exit_status
        return error


Input = Frame | Query | Context | AssistantTurn
Output = Scores | QueryRead | ContextRead | ReplyStarted | ReplyDelta | Reply | StreamEnded | SessionFailed


def output_to_dict(output: Output) -> dict[str, Any]:
    """Return an output under its public names, as JSON lines have it: ``type`` first, then the fields."""
    match output:
        case Scores(frame, time, informative, relevance, speak):
            head: dict[str, Any] = {"type": "scores", "frame": frame, "time": time}
            return head | {"informative": informative, "relevance": relevance, "speak": speak}
        case QueryRead(query, time):
            return {"type": "query_read", "query": {"text": query.text, "time": query.time}, "time": time}
        case ContextRead(context, time):
            turn = {"text": context.text, "time": context.time, "keep": context.keep}
            return {"type": "context_read", "context": turn, "time": time}
        case ReplyStarted(reply, frame, time, forced):
            return {"type": "reply_started", "reply": reply, "frame": frame, "time": time, "forced": forced}
        case ReplyDelta(reply, text):
            return {"type": "reply_delta", "reply": reply, "text": text}
        case Reply():
            return {
                "type": "reply", "reply": output.reply, "frame": output.frame, "time": output.time, "text": output.text,
                "tokens": output.tokens, "finish": output.finish, "forced": output.forced,
                "context_tokens": output.context_tokens,
            }  # fmt: skip
        case StreamEnded(frames, duration):
            return {"type": "stream_ended", "frames": frames, "duration": duration}
        case SessionFailed(code, message, exit_status):
            return {"type": "session_failed", "code": code, "message": message, "exit_status": exit_status}
