"""Events that servers send, and their parsing. The session's log sets ``event_id``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from mmduet.protocol.limits import Limits, RateLimit
from mmduet.protocol.queue_events import SessionQueued as SessionQueued
from mmduet.protocol.source_events import CloseReason as CloseReason
from mmduet.protocol.source_events import FrameThumbnail as FrameThumbnail
from mmduet.protocol.source_events import SourceClosed as SourceClosed
from mmduet.protocol.source_events import SourceOpened as SourceOpened
from mmduet.protocol.source_events import SourceUpdated as SourceUpdated
from mmduet.protocol.wire import ServerEvent as ServerEvent
from mmduet.protocol.wire import ServerModel

DropReason = Literal["late", "rate", "decode_error", "duplicate", "paused", "closed"]
ResponseStatus = Literal["in_progress", "completed", "cancelled", "incomplete"]


class SessionDuet(ServerModel):
    """Settings that extend the Realtime API.

    ``query`` (the model's recommended query), ``limits`` and ``resume_token`` are sent in ``session.created`` only.
    """

    fps: float | None
    speak: dict[str, Any]
    keep_replies: bool
    profile: str
    window: int | None
    adapter: str | None
    scores: bool
    ack: bool
    max_frame_age: float | None = None
    thumbnails: bool = False
    query: str | None = None
    limits: Limits | None = None
    resume_token: str | None = None


class Session(ServerModel):
    """The session and its settings."""

    id: str
    model: str
    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    output_modalities: tuple[Literal["text"], ...] = ("text",)
    instructions: str | None = None
    max_output_tokens: int
    duet: SessionDuet


class SessionCreated(ServerEvent):
    """First event of a session, with its limits and its resume token."""

    type: Literal["session.created"] = "session.created"
    session: Session


class SessionUpdated(ServerEvent):
    """The settings were changed by ``session.update``."""

    type: Literal["session.updated"] = "session.updated"
    session: Session


class SessionResumed(ServerEvent):
    """The session was resumed and all missed events have been sent.

    The client must send its messages after ``last_consumed_client_message_index`` again. Messages are counted from 0 over all
    connections of the session, without ``session.resume`` and requests over HTTP; -1 means that none was received.
    """

    type: Literal["session.resumed"] = "session.resumed"
    session_id: str
    last_consumed_client_message_index: int


class ResyncRequired(ServerEvent):
    """The session was resumed, but some of the events after ``last_event_id`` are no longer available."""

    type: Literal["session.resync_required"] = "session.resync_required"
    session_id: str
    last_consumed_client_message_index: int


class SessionExpired(ServerEvent):
    """The session does not exist any more or the resume token is wrong. Open a new session."""

    type: Literal["session.expired"] = "session.expired"
    session_id: str


class SessionReplaced(ServerEvent):
    """The session was resumed on another connection. This one is closed."""

    type: Literal["session.replaced"] = "session.replaced"
    session_id: str


class GoAway(ServerEvent):
    """The server is about to close the connection. Then resume: at once if the reason is ``upgrade``, or after a restart."""

    type: Literal["session.go_away"] = "session.go_away"
    time_left_s: float
    reason: str


class SessionWarningEvent(ServerEvent):
    """The session continues, but with a limitation. Each ``code`` is sent once.

    Codes: ``out_of_domain``, the video does not look like the footage that the model was trained on; ``speak_policy``, the
    speak policy lets the model speak never or always, regardless of the scores; ``not_journaled``, the server's journal cannot
    be written, so that the session may not survive a restart.
    """

    type: Literal["session.warning"] = "session.warning"
    code: str
    message: str


class SessionClosed(ServerEvent):
    """Last event of a session. ``frames`` has the number of frames by outcome."""

    type: Literal["session.closed"] = "session.closed"
    reason: Literal["ended", "failed", "idle", "shutdown"]
    frames: dict[str, int]
    duration_s: float


class HeartbeatAck(ServerEvent):
    """Answer to ``session.heartbeat``. For the message index see ``session.resumed``."""

    type: Literal["session.heartbeat_ack"] = "session.heartbeat_ack"
    last_consumed_client_message_index: int


class FrameScored(ServerEvent):
    """A frame was scored: the probabilities of both heads, the decision, and the time since the frame arrived."""

    type: Literal["input_frame.scored"] = "input_frame.scored"
    seq: int
    pts: int
    informative: float | None
    relevance: float | None
    decision: Literal["listen", "speak"]
    age_ms: float


class FrameDropped(ServerEvent):
    """A frame was not scored.

    Reasons: ``late``, newer frames replaced it in the queue, it waited longer than ``max_frame_age``, or its ``pts`` is before
    that of an earlier frame; ``rate``, it is between two frames of the session's fps, or the key's frames per second are used
    up; ``duplicate``, its ``seq`` or ``pts`` was used before; ``decode_error``, its image is invalid; ``paused``, it comes from
    a live source that is paused; ``closed``, the session ended first.
    """

    type: Literal["input_frame.dropped"] = "input_frame.dropped"
    seq: int
    pts: int
    reason: DropReason


class TextPart(ServerModel):
    """Text of an assistant turn."""

    type: Literal["output_text"] = "output_text"
    text: str


class Item(ServerModel):
    """A turn. The data of images is not repeated."""

    id: str
    type: Literal["message"] = "message"
    object: Literal["realtime.item"] = "realtime.item"
    status: ResponseStatus = "completed"
    role: Literal["user", "system", "assistant"]
    content: tuple[dict[str, Any], ...] = ()
    duet: dict[str, Any] | None = None


class ItemAdded(ServerEvent):
    """The turn was accepted."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None = None
    item: Item


class ItemDone(ServerEvent):
    """The model has read the turn, or finished its own."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None = None
    item: Item


class Trigger(ServerModel):
    """The frame that triggered a reply, with its scores; null before the first frame. ``forced``: the client requested it."""

    trigger_seq: int | None
    trigger_pts: int | None
    informative: float | None
    relevance: float | None
    forced: bool


class Usage(ServerModel):
    """Tokens in the context when the reply started, and tokens generated."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Timing(ServerModel):
    """Milliseconds from the arrival of the frame, or of the client's request, to the first text and to the end."""

    first_delta_ms: float | None
    done_ms: float


class ResponseDuet(Trigger):
    """Extensions of a response: its trigger and its timing."""

    timing: Timing | None = None


class Response(ServerModel):
    """A reply."""

    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: ResponseStatus
    status_details: dict[str, str] | None = None
    conversation_id: str
    output_modalities: tuple[Literal["text"], ...] = ("text",)
    output: tuple[Item, ...] = ()
    metadata: dict[str, str] | None = None
    usage: Usage | None = None
    duet: ResponseDuet


class ResponseCreated(ServerEvent):
    """The model has started a reply."""

    type: Literal["response.created"] = "response.created"
    response: Response


class OutputItemAdded(ServerEvent):
    """The item of the reply was created."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    response_id: str
    output_index: int = 0
    item: Item


class OutputItemDone(ServerEvent):
    """The item of the reply is complete."""

    type: Literal["response.output_item.done"] = "response.output_item.done"
    response_id: str
    output_index: int = 0
    item: Item


class _TextEvent(ServerEvent):
    response_id: str
    item_id: str
    output_index: int = 0
    content_index: int = 0


class ContentPartAdded(_TextEvent):
    """The text of the reply starts."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: dict[str, str] = Field(default_factory=lambda: {"type": "text", "text": ""})


class ContentPartDone(_TextEvent):
    """The text part of the reply is complete."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: dict[str, str]


class TextDelta(_TextEvent):
    """More text of the reply."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(_TextEvent):
    """The complete text of the reply."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class ResponseDone(ServerEvent):
    """The reply has ended: ``completed``, ``cancelled``, or ``incomplete`` at ``max_output_tokens`` or at the key's limit."""

    type: Literal["response.done"] = "response.done"
    response: Response


class RateLimitsUpdated(ServerEvent):
    """What is left of the limits of the key, at the begin and end of a reply and when a rate takes effect.

    It is sent only if a limit is configured. A rate that has taken effect is reported at most once per second.
    """

    type: Literal["rate_limits.updated"] = "rate_limits.updated"
    rate_limits: tuple[RateLimit, ...]


class Error(ServerModel):
    """An error. ``param`` is the dotted name of the invalid parameter, ``event_id`` that of the client's event."""

    type: Literal["invalid_request_error", "server_error"] = "invalid_request_error"
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


class ErrorEvent(ServerEvent):
    """A request failed. The session continues unless ``session.closed`` follows."""

    type: Literal["error"] = "error"
    error: Error


class UnknownEvent(ServerEvent):
    """An event of a newer server that this version does not know."""

    type: str


ServerEvents = Annotated[
    SessionQueued | SessionCreated | SessionUpdated | SessionResumed | ResyncRequired | SessionExpired | SessionReplaced
    | GoAway | SessionWarningEvent | SessionClosed | HeartbeatAck | FrameScored | FrameDropped | SourceOpened | SourceUpdated
    | FrameThumbnail | SourceClosed | ItemAdded | ItemDone | ResponseCreated | OutputItemAdded | ContentPartAdded | TextDelta
    | TextDone | ContentPartDone | OutputItemDone | ResponseDone | RateLimitsUpdated | ErrorEvent,
    Field(discriminator="type"),
]  # fmt: skip


_ADAPTER: TypeAdapter[Any] = TypeAdapter(ServerEvents, config=ConfigDict(defer_build=True))  # built at the first event


def parse_server_event(text: str | bytes) -> Any:
    """Return the event in a message: one of ``ServerEvents``, or ``UnknownEvent``. Raises ``pydantic.ValidationError``."""
    unknown = UnknownEvent.model_validate_json(text)
    return _ADAPTER.validate_json(text) if unknown.type in KNOWN_TYPES else unknown


KNOWN_TYPES = frozenset(
    event.model_fields["type"].default
    for event in (*ServerEvent.__subclasses__(), *_TextEvent.__subclasses__())
    if event not in (UnknownEvent, _TextEvent)
)
