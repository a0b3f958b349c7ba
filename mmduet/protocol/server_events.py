"""Every message that a server may tell, as values; ``event_id`` is given when it is written into the session's log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from mmduet.protocol.wire import ServerModel

DropReason = Literal["late", "rate", "decode_error", "duplicate", "closed"]
CloseReason = Literal["asked", "ended", "failed"]
ResponseStatus = Literal["in_progress", "completed", "cancelled", "incomplete"]


class ServerEvent(ServerModel):
    """What every message bears: ``event_id`` increases within a session, as text and as a number."""

    event_id: str = ""


class Limits(ServerModel):
    """What the server holds a session to, and what it may choose. Times in seconds; ``window`` in frames."""

    max_sessions: int
    max_message_bytes: int
    max_waiting_frames: int
    fps: float
    window: int | None
    idle_timeout_s: float
    time_to_live_s: float
    adapters: tuple[str, ...] = ()


class SessionDuet(ServerModel):
    """What the session is set to beyond Realtime, and, when it is created, its limits and the token that resumes it.

    ``query`` is what the model is best asked where its user asks nothing.
    """

    fps: float | None
    speak: dict[str, Any]
    keep_replies: bool
    profile: str
    window: int | None
    adapter: str | None
    scores: bool
    ack: bool
    query: str | None = None
    limits: Limits | None = None
    resume_token: str | None = None


class Session(ServerModel):
    """The session as it is set."""

    id: str
    model: str
    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    output_modalities: tuple[Literal["text"], ...] = ("text",)
    instructions: str | None = None
    max_output_tokens: int
    duet: SessionDuet


class SessionCreated(ServerEvent):
    """The first message: the session, its limits, its resume token."""

    type: Literal["session.created"] = "session.created"
    session: Session


class SessionUpdated(ServerEvent):
    """The session after ``session.update``."""

    type: Literal["session.updated"] = "session.updated"
    session: Session


class SessionResumed(ServerEvent):
    """Told after all that was missed; messages beyond ``last_consumed_client_message_index`` have to be sent again.

    Messages count from 0 over all sockets of the session, ``session.resume`` itself not counted; -1: none came.
    """

    type: Literal["session.resumed"] = "session.resumed"
    session_id: str
    last_consumed_client_message_index: int


class ResyncRequired(ServerEvent):
    """The session goes on, but events after ``last_event_id`` are no longer kept: some are missing for good."""

    type: Literal["session.resync_required"] = "session.resync_required"
    session_id: str
    last_consumed_client_message_index: int


class SessionExpired(ServerEvent):
    """There is no such session any more, or its token is another; open a new session."""

    type: Literal["session.expired"] = "session.expired"
    session_id: str


class SessionReplaced(ServerEvent):
    """Another socket has taken the session over; this one is closed."""

    type: Literal["session.replaced"] = "session.replaced"
    session_id: str


class GoAway(ServerEvent):
    """The server is about to close; resume elsewhere, or here when it is back."""

    type: Literal["session.go_away"] = "session.go_away"
    time_left_s: float
    reason: str


class SessionClosed(ServerEvent):
    """The last message: why it ends, and what became of the frames."""

    type: Literal["session.closed"] = "session.closed"
    reason: Literal["ended", "failed", "idle", "shutdown"]
    frames: dict[str, int]
    duration_s: float


class HeartbeatAck(ServerEvent):
    """How many of the client's messages have been consumed (see ``session.resumed``)."""

    type: Literal["session.heartbeat_ack"] = "session.heartbeat_ack"
    last_consumed_client_message_index: int


class FrameScored(ServerEvent):
    """A frame was watched: the two heads' probabilities, the decision, and how long it took from its coming, in ms."""

    type: Literal["input_frame.scored"] = "input_frame.scored"
    seq: int
    pts: int
    informative: float | None
    relevance: float | None
    decision: Literal["listen", "speak"]
    age_ms: float


class FrameDropped(ServerEvent):
    """A frame was not watched.

    ``late``: newer ones came before its turn, or its time is before that of an earlier frame; ``rate``: between two ticks
    of the session's fps; ``duplicate``: its seq or time came before; ``decode_error``: no picture; ``closed``: the session
    ended first.
    """

    type: Literal["input_frame.dropped"] = "input_frame.dropped"
    seq: int
    pts: int
    reason: DropReason


class SourceOpened(ServerEvent):
    """The server pulls frames from now on; ``url`` without credentials."""

    type: Literal["input_source.opened"] = "input_source.opened"
    url: str
    width: int
    height: int


class SourceClosed(ServerEvent):
    """The server has stopped pulling: asked to, at the source's end, or because of ``message``."""

    type: Literal["input_source.closed"] = "input_source.closed"
    url: str
    reason: CloseReason
    message: str | None = None


class TextPart(ServerModel):
    """Words of an assistant's turn."""

    type: Literal["output_text"] = "output_text"
    text: str


class Item(ServerModel):
    """A turn. A picture's bytes are not repeated."""

    id: str
    type: Literal["message"] = "message"
    object: Literal["realtime.item"] = "realtime.item"
    status: ResponseStatus = "completed"
    role: Literal["user", "system", "assistant"]
    content: tuple[dict[str, Any], ...] = ()
    duet: dict[str, Any] | None = None


class ItemAdded(ServerEvent):
    """The turn is on the timeline."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None = None
    item: Item


class ItemDone(ServerEvent):
    """The model has read the turn, or finished it."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None = None
    item: Item


class Trigger(ServerModel):
    """The frame that set a reply off, its scores, and whether the client asked for it. Null before the first frame."""

    trigger_seq: int | None
    trigger_pts: int | None
    informative: float | None
    relevance: float | None
    forced: bool


class Usage(ServerModel):
    """Tokens: in view when the reply began, and written."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Timing(ServerModel):
    """Milliseconds from the frame's coming (or the asking, where it was asked for) to the first words and to the end."""

    first_delta_ms: float | None
    done_ms: float


class ResponseDuet(Trigger):
    """What Realtime has no words for in a reply."""

    timing: Timing | None = None


class Response(ServerModel):
    """A reply as a whole."""

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
    """The model begins to speak."""

    type: Literal["response.created"] = "response.created"
    response: Response


class OutputItemAdded(ServerEvent):
    """The turn that the reply is written into."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    response_id: str
    output_index: int = 0
    item: Item


class OutputItemDone(ServerEvent):
    """The turn, with all its words."""

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
    """Words begin."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: dict[str, str] = Field(default_factory=lambda: {"type": "text", "text": ""})


class ContentPartDone(_TextEvent):
    """Words end."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: dict[str, str]


class TextDelta(_TextEvent):
    """More words."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(_TextEvent):
    """All the words."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class ResponseDone(ServerEvent):
    """The reply is over: ``completed``, ``cancelled``, or ``incomplete`` at its limit of tokens."""

    type: Literal["response.done"] = "response.done"
    response: Response


class Error(ServerModel):
    """``param`` is the dotted name of what is wrong, ``event_id`` the client's name for the message that was."""

    type: Literal["invalid_request_error", "server_error"] = "invalid_request_error"
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


class ErrorEvent(ServerEvent):
    """Something could not be done; the session goes on unless ``session.closed`` follows."""

    type: Literal["error"] = "error"
    error: Error


class UnknownEvent(ServerEvent):
    """A message of a newer server, as a client of this version reads it."""

    type: str


ServerEvents = Annotated[
    SessionCreated
    | SessionUpdated
    | SessionResumed
    | ResyncRequired
    | SessionExpired
    | SessionReplaced
    | GoAway
    | SessionClosed
    | HeartbeatAck
    | FrameScored
    | FrameDropped
    | SourceOpened
    | SourceClosed
    | ItemAdded
    | ItemDone
    | ResponseCreated
    | OutputItemAdded
    | ContentPartAdded
    | TextDelta
    | TextDone
    | ContentPartDone
    | OutputItemDone
    | ResponseDone
    | ErrorEvent,
    Field(discriminator="type"),
]
_ADAPTER: list[TypeAdapter[Any]] = []


def parse_server_event(text: str | bytes) -> Any:
    """The message, one of ``AnyServerEvent``, or ``Unknown``. Raises ``pydantic.ValidationError`` for what is none."""
    if not _ADAPTER:
        _ADAPTER.append(TypeAdapter(ServerEvents))
    unknown = UnknownEvent.model_validate_json(text)
    known = unknown.type in KNOWN_TYPES
    return _ADAPTER[0].validate_json(text) if known else unknown


KNOWN_TYPES = frozenset(
    event.model_fields["type"].default
    for event in (*ServerEvent.__subclasses__(), *_TextEvent.__subclasses__())
    if event not in (UnknownEvent, _TextEvent)
)
