"""Request schema of ``/v1/chat/completions``: the supported part of OpenAI's, plus ``video_url`` parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmduet.protocol.wire import ClientModel


class MediaUrl(ClientModel):
    """Address of an image or a video: a data URL, or an http(s) URL that the server allows."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class TextPart(ClientModel):
    """A text part of a message."""

    type: Literal["text"]
    text: str


class ImagePart(ClientModel):
    """An image, which becomes one frame."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(ClientModel):
    """A video, which is sampled at the model's frame rate."""

    type: Literal["video_url"]
    video_url: MediaUrl


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(ClientModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[Part, ...]
    name: str | None = None

    @property
    def is_system(self) -> bool:
        """Return whether the message is a system prompt."""
        return self.role in ("system", "developer")

    @property
    def texts(self) -> list[str]:
        """Return the text parts."""
        if isinstance(self.content, str):
            return [self.content]
        return [part.text for part in self.content if isinstance(part, TextPart)]

    @property
    def media(self) -> list[ImagePart | VideoPart]:
        """Return the image and video parts."""
        if isinstance(self.content, str):
            return []
        return [part for part in self.content if not isinstance(part, TextPart)]


class StreamOptions(ClientModel):
    """``include_usage`` adds a last chunk with the token counts."""

    include_usage: bool = False


class ChatRequest(ClientModel):
    """Body of a chat completion request. Unknown fields are rejected by name."""

    model: str
    messages: tuple[Message, ...] = Field(min_length=1, max_length=256)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    n: Literal[1] = 1
    user: str | None = None
