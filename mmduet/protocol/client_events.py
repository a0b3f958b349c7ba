"""Every message that a client may send as text, and how one is read; frames may also come as bytes (``frames``)."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from mmduet.errors import ProtocolError
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import ClientModel, to_protocol_error

MAX_PTS = 2**53 - 1
"""Microseconds that a JSON number holds exactly in every language; 285 years."""
MAX_SEQ = 2**32 - 1
MAX_TEXT_CHARS = 32_768
"""Characters of one query or context."""
MAX_ID_CHARS = 128


class ClientEventBase(ClientModel):
    """What every message may bear: ``event_id``, the client's own name for it, which an error about it repeats."""

    event_id: Annotated[str, Field(max_length=512)] | None = None


class InputText(ClientModel):
    """Words."""

    type: Literal["input_text"]
    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)


class InputImage(ClientModel):
    """A still picture, put on the timeline as a frame of its own, one tick after the latest. Base64 in a data URL."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] = "auto"


Content = Annotated[InputText | InputImage, Field(discriminator="type")]


class ItemDuet(ClientModel):
    """``keep`` pins a context in the window; a query is always pinned.

    ``pts`` is when it was said, in microseconds, and only repeated: a turn is read where it comes among the frames.
    """

    keep: bool = False
    pts: int | None = Field(default=None, ge=0, le=MAX_PTS)


class ItemInput(ClientModel):
    """A turn: role ``user`` is a query, ``system`` a context (a transcript line, a cast list, a catalogue hit)."""

    type: Literal["message"]
    role: Literal["user", "system"]
    content: tuple[Content, ...] = Field(min_length=1, max_length=16)
    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None
    duet: ItemDuet = ItemDuet()

    @property
    def text(self) -> str:
        """The words of all parts, a line each."""
        return "\n".join(part.text for part in self.content if isinstance(part, InputText))


class UpdateSession(ClientEventBase):
    """Set the session; before the first input everything, afterwards what can change under way."""

    type: Literal["session.update"]
    session: SessionUpdate


class CreateItem(ClientEventBase):
    """Put a turn on the timeline, after the frames that were sent before it."""

    type: Literal["conversation.item.create"]
    item: ItemInput
    previous_item_id: str | None = None

    @field_validator("previous_item_id")
    @classmethod
    def _check_previous_item_id(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("turns are put where the stream stands, not after an earlier one")
        return value


class ResponseOptions(ClientModel):
    """What a single reply may be asked with. ``metadata`` is repeated in the reply's events."""

    output_modalities: tuple[Literal["text"], ...] | None = None
    conversation: Literal["auto"] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)


class CreateResponse(ClientEventBase):
    """Speak now, whatever the policy says."""

    type: Literal["response.create"]
    response: ResponseOptions = ResponseOptions()


class CancelResponse(ClientEventBase):
    """Stop the reply that is being written."""

    type: Literal["response.cancel"]
    response_id: str | None = None


class AppendFrame(ClientEventBase):
    """A frame as text: ``pts`` in microseconds, ``image`` JPEG, PNG or WebP in base64, or a data URL of it.

    Without ``seq`` it follows the frame before it.
    """

    type: Literal["input_frame.append"]
    pts: int = Field(ge=0, le=MAX_PTS)
    seq: int | None = Field(default=None, ge=0, le=MAX_SEQ)
    image: str


class EndFrames(ClientEventBase):
    """No more frames: what is pending is finished and answered, then the session is closed."""

    type: Literal["input_frame.end"]


class OpenSource(ClientEventBase):
    """Have the server pull frames, where its settings allow it: of a file that it may read, of one on the web (http, https), of
    an HLS playlist, of a camera (``rtsp``, ``rtsps``, by ``transport``), or of its own ``webcam`` or ``webcam:NUMBER``.
    """

    type: Literal["input_source.open"]
    url: str = Field(min_length=1, max_length=4096)
    transport: Literal["tcp", "udp"] = "tcp"


class CloseSource(ClientEventBase):
    """Stop pulling."""

    type: Literal["input_source.close"]


class ResumeSession(ClientEventBase):
    """Go on with a session whose socket was lost; the first message on a new socket, else an error."""

    type: Literal["session.resume"]
    session_id: str = Field(max_length=MAX_ID_CHARS)
    resume_token: str = Field(max_length=MAX_ID_CHARS)
    last_event_id: Annotated[str, Field(max_length=MAX_ID_CHARS)] | None = None


class Heartbeat(ClientEventBase):
    """Still there; answered at once with how much has been consumed."""

    type: Literal["session.heartbeat"]


ClientEvent = Annotated[
    UpdateSession
    | CreateItem
    | CreateResponse
    | CancelResponse
    | AppendFrame
    | EndFrames
    | OpenSource
    | CloseSource
    | ResumeSession
    | Heartbeat,
    Field(discriminator="type"),
]


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(ClientEvent)


def parse_client_event(text: str) -> Any:
    """The message, one of ``ClientEvent``. Raises ``ProtocolError``, which names what is wrong."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise to_protocol_error(error, _find_event_id(text)) from None
    except UnicodeEncodeError:
        raise ProtocolError(
            "the message holds half a character (a lone surrogate); encode it again", "invalid_json"
        ) from None


class _EventWithId(ClientModel):
    model_config = ConfigDict(extra="ignore")

    event_id: str | None = None


def _find_event_id(text: str) -> str | None:
    """The client's name for a message that is otherwise wrong, where it can be read."""
    try:
        found = _EventWithId.model_validate_json(text).event_id
    except ValueError:
        return None
    return found[:512] if found is not None else None
