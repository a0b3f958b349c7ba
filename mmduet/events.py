"""The events on a session's timeline, as frozen values.

Sources and clients write the ``Input`` types, the engine the ``Output`` types. All times are seconds from the start of the
stream.
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
    """One frame of the stream.

    Attributes:
        index: Number of the frame after sampling, from 0.
        time: Presentation time.
        image: RGB ``uint8 [H, W, 3]``.
        decoded_index: Number of the frame in the source before sampling, from 0; -1 if unknown.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    decoded_index: int = -1


@dataclass(frozen=True)
class Query:
    """A user turn, which the model reads once the stream has reached ``time``."""

    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Context:
    """A system turn inside the stream, such as a transcript line or a cast list; ``keep`` pins it in the window."""

    text: str
    time: float = 0.0
    keep: bool = False


@dataclass(frozen=True)
class AssistantTurn:
    """A reply from earlier in the conversation, added to the context as history."""

    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Scores:
    """The probabilities of the two heads after one frame, and whether the policy decided to speak."""

    frame: int
    time: float
    informative: float
    relevance: float
    speak: bool = False


@dataclass(frozen=True)
class QueryRead:
    """The model has read a user turn."""

    query: Query
    time: float


@dataclass(frozen=True)
class ContextRead:
    """The model has read a context turn."""

    context: Context
    time: float


@dataclass(frozen=True)
class ReplyStarted:
    """A reply starts after the frame at ``time``. ``frame`` is -1 before the first frame; ``forced`` is as in ``Reply``."""

    reply: int
    frame: int
    time: float
    forced: bool = False


@dataclass(frozen=True)
class ReplyDelta:
    """The next piece of a reply's text. The concatenated deltas of a reply are its text."""

    reply: int
    text: str


@dataclass(frozen=True)
class Reply:
    """A finished reply.

    Attributes:
        time: Time of the frame that triggered the reply.
        tokens: Number of generated tokens.
        forced: Whether the reply was requested, or is due after the last frame, rather than decided by the policy.
        context_tokens: Number of tokens in the context when the reply started.
    """

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
    """All frames have been scored and all turns processed. ``duration`` is the time of the last frame."""

    frames: int
    duration: float


@dataclass(frozen=True)
class SessionFailed:
    """The session failed and is closed; other sessions continue. ``code`` is that of the error."""

    code: str
    message: str
    exit_status: int

    def as_error(self) -> EngineError:
        """Return an error with the same code and exit status, for callers that raise it."""
        error = EngineError(self.message)
        error.code, error.exit_status = self.code, self.exit_status
        return error


OUT_OF_DOMAIN, SPEAK_POLICY, NOT_JOURNALED = "out_of_domain", "speak_policy", "not_journaled"
"""Codes of warnings."""


@dataclass(frozen=True)
class SessionWarning:
    """A limitation with which the session continues. Emitted once per ``code``, except for messages that a server rejects.

    ``code`` is ``OUT_OF_DOMAIN`` if the video does not look like the footage that the model was trained on, ``SPEAK_POLICY`` if
    the speak policy lets the model speak never or always, regardless of the scores, ``NOT_JOURNALED`` if the server cannot
    write the session's journal. A message that a server rejects has the code of that error.
    """

    code: str
    message: str
    time: float


Input = Frame | Query | Context | AssistantTurn
Output = (
    Scores | QueryRead | ContextRead | ReplyStarted | ReplyDelta | Reply | SessionWarning | StreamEnded | SessionFailed
)


def output_to_dict(output: Output) -> dict[str, Any]:
    """Return an output as a JSON object under its public names: ``type`` first, then the fields."""
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
        case SessionWarning(code, message, time):
            return {"type": "warning", "code": code, "message": message, "time": time}
        case StreamEnded(frames, duration):
            return {"type": "stream_ended", "frames": frames, "duration": duration}
        case SessionFailed(code, message, exit_status):
            return {"type": "session_failed", "code": code, "message": message, "exit_status": exit_status}
