"""Events that clients send as JSON, and their parsing. Frames may also be sent as binary messages, see ``frames``."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from mmduet.errors import ProtocolError
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import INTEGRAL, ClientModel, Ignored, NullMeans, only, to_protocol_error, validate_json

MAX_PTS = 2**53 - 1
"""Largest number of microseconds that a JSON number holds exactly in every language; 285 years."""
MAX_SEQ = 2**32 - 1
MAX_TEXT_CHARS = 32_768
"""Characters of one query or context."""
MAX_ID_CHARS = 128
MAX_SPEED = 100.0
Speed = Annotated[float, Field(gt=0, le=MAX_SPEED)]
"""Speed of a source as a multiple of real time."""


class ClientEventBase(ClientModel):
    """Base of all client events. ``event_id`` is chosen by the client and repeated in errors about the event."""

    event_id: Annotated[str, Field(max_length=512)] | None = None


OtherContent = Annotated[Any, only(), Field(exclude=True)]
"""A field of other kinds of content, which may be null; it is not repeated in the server's events."""


class InputText(ClientModel):
    """Text of a turn."""

    type: Literal["input_text"]
    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    audio: OtherContent = None
    image_url: OtherContent = None
    transcript: OtherContent = None
    detail: Annotated[Ignored, Field(exclude=True)] = None


class InputImage(ClientModel):
    """An image as a base64 data URL. It becomes a frame, one sampling interval after the last one."""

    type: Literal["input_image"]
    image_url: str
    detail: Annotated[Literal["auto", "low", "high"], NullMeans("auto")] = "auto"
    audio: OtherContent = None
    text: OtherContent = None
    transcript: OtherContent = None


Content = Annotated[InputText | InputImage, Field(discriminator="type")]


class ItemDuet(ClientModel):
    """Extensions of an item.

    ``keep`` pins a context in the window; queries are always pinned. ``pts`` is a time in microseconds that is only repeated in
    events: the position of a turn is that of its message among the frames.
    """

    keep: Annotated[bool, NullMeans(False)] = False
    pts: Annotated[int, Field(ge=0, le=MAX_PTS), INTEGRAL] | None = None


class ItemInput(ClientModel):
    """A turn. Role ``user`` is a query, ``system`` is context such as a transcript line, a cast list or a catalogue hit."""

    type: Literal["message"]
    role: Literal["user", "system"]
    content: tuple[Content, ...] = Field(min_length=1, max_length=16)
    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None
    duet: Annotated[ItemDuet, NullMeans(ItemDuet())] = ItemDuet()

    @property
    def text(self) -> str:
        """The text of all parts, one line each."""
        return "\n".join(part.text for part in self.content if isinstance(part, InputText))


class UpdateSession(ClientEventBase):
    """Change settings. After the first input, some settings are fixed and changing them is an error."""

    type: Literal["session.update"]
    session: SessionUpdate


class CreateItem(ClientEventBase):
    """Append a turn after the frames that were sent before it."""

    type: Literal["conversation.item.create"]
    item: ItemInput
    previous_item_id: str | None = None

    @field_validator("previous_item_id")
    @classmethod
    def _check_previous_item_id(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("turns can only be appended; leave previous_item_id out")
        return value


class ResponseOptions(ClientModel):
    """Options of one reply. ``metadata`` is repeated in the reply's events.

    Fields of OpenAI's that have no effect here are accepted with their default, as in ``session.update``.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"request": "7"}}]})

    output_modalities: tuple[Literal["text"], ...] | None = None
    conversation: Literal["auto"] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    audio: Annotated[Any, only()] = None
    input: Annotated[Any, only()] = None
    instructions: Annotated[Any, only()] = None
    max_output_tokens: Annotated[Any, only("inf")] = None
    parallel_tool_calls: Ignored = None
    prompt: Annotated[Any, only()] = None
    reasoning: Annotated[Any, only()] = None
    tool_choice: Annotated[Any, only("auto", "none")] = None
    tools: Annotated[Any, only([])] = None


class CreateResponse(ClientEventBase):
    """Request a reply regardless of the speak policy."""

    type: Literal["response.create"]
    response: Annotated[ResponseOptions, NullMeans(ResponseOptions())] = ResponseOptions()


class CancelResponse(ClientEventBase):
    """Stop the reply that is being generated."""

    type: Literal["response.cancel"]
    response_id: str | None = None


class AppendFrame(ClientEventBase):
    """Append a frame. ``pts`` is in microseconds; ``image`` is a JPEG, PNG or WebP image in base64 or as a data URL.

    Without ``seq``, the frame gets the number after that of the previous one.
    """

    type: Literal["input_frame.append"]
    pts: Annotated[int, Field(ge=0, le=MAX_PTS), INTEGRAL]
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ), INTEGRAL] | None = None
    image: str


class EndFrames(ClientEventBase):
    """Announce that no more frames follow. The server finishes what is pending and closes the session."""

    type: Literal["input_frame.end"]


class OpenSource(ClientEventBase):
    """Let the server read frames from a source, if its settings allow it.

    ``url`` is a file in an allowed folder, a file on the web (``http``, ``https``), an HLS playlist, a camera (``rtsp``,
    ``rtsps``, with ``transport``), or the server's own ``webcam`` or ``webcam:NUMBER``. A file is read as fast as its frames
    are scored, or at ``speed`` times real time: then never faster, but slower if the frames cannot be scored in time, because
    none is dropped. A live source has a pace of its own: its ``speed`` is reported as an error and ignored.
    """

    type: Literal["input_source.open"]
    url: str = Field(min_length=1, max_length=4096)
    transport: Annotated[Literal["tcp", "udp"], NullMeans("tcp")] = "tcp"
    speed: Speed | None = None


class UpdateSource(ClientEventBase):
    """Pause or continue the open source, or change its speed, at once; answered by ``input_source.updated``.

    Fields that are left out, and ``paused: null``, change nothing. ``speed: null`` reads as fast as frames are scored. While
    the source is paused, queries are read and replies can be requested.
    """

    type: Literal["input_source.update"]
    paused: bool | None = None
    speed: Speed | None = None


class CloseSource(ClientEventBase):
    """Stop reading frames from the source."""

    type: Literal["input_source.close"]


class ResumeSession(ClientEventBase):
    """Resume a session whose connection was lost. It must be the first message on a new connection."""

    type: Literal["session.resume"]
    session_id: str = Field(max_length=MAX_ID_CHARS)
    resume_token: str = Field(max_length=MAX_ID_CHARS)
    last_event_id: Annotated[str, Field(max_length=MAX_ID_CHARS)] | None = None


class Heartbeat(ClientEventBase):
    """Confirm that the client is alive. The server answers at once with the number of consumed messages."""

    type: Literal["session.heartbeat"]


ClientEvent = Annotated[
    UpdateSession
    | CreateItem
    | CreateResponse
    | CancelResponse
    | AppendFrame
    | EndFrames
    | OpenSource
    | UpdateSource
    | CloseSource
    | ResumeSession
    | Heartbeat,
    Field(discriminator="type"),
]


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(ClientEvent)


def parse_client_event(text: str) -> Any:
    """Return the event in a message, one of ``ClientEvent``. Raises ``ProtocolError`` naming the invalid parameter."""
    try:
        return validate_json(_adapter().validate_json, text)
    except ValidationError as error:
        raise to_protocol_error(error, _find_event_id(text)) from None
    except UnicodeEncodeError:
        raise ProtocolError(
            "the message contains an unpaired surrogate; encode it as valid UTF-8", "invalid_json"
        ) from None


class _EventWithId(ClientModel):
    model_config = ConfigDict(extra="ignore")

    event_id: str | None = None


def _find_event_id(text: str) -> str | None:
    """Return the ``event_id`` of an invalid message, if it has one."""
    try:
        found = _EventWithId.model_validate_json(text).event_id
    except ValueError:
        return None
    return found[:512] if found is not None else None
