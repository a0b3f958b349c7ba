"""Request schema of ``/v1/chat/completions``: OpenAI's, of which only some parameters have an effect, and ``video_url``.

Parameters that do not change the answer are accepted and ignored. Those that would change it are accepted only with values
that leave it as it is, and otherwise rejected by name. Every optional parameter may be null, and so may unknown ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mmduet.protocol.wire import INTEGRAL, ClientModel, Ignored, only


class MediaUrl(ClientModel):
    """Address of an image or a video: a data URL, or an http(s) URL that the server allows."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class TextPart(ClientModel):
    """A text part of a message."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Ignored = None


class RefusalPart(ClientModel):
    """A refusal in an earlier reply; it is read as text."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(ClientModel):
    """An image, which becomes one frame."""

    type: Literal["image_url"]
    image_url: MediaUrl
    prompt_cache_breakpoint: Ignored = None


class VideoPart(ClientModel):
    """A video, which is sampled at the model's frame rate, or at a lower one if the context cannot hold all its frames."""

    type: Literal["video_url"]
    video_url: MediaUrl


def _content_tag(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list | tuple) else None


_BY_TYPE = Discriminator(
    _content_tag, custom_error_type="content_type", custom_error_message="expected a text or a list of content parts"
)


UserPart = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
UserContent = Annotated[Annotated[str, Tag("<text>")] | Annotated[tuple[UserPart, ...], Tag("<parts>")], _BY_TYPE]
AssistantContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[tuple[AssistantPart, ...], Tag("<parts>")], _BY_TYPE
]
SystemContent = Annotated[Annotated[str, Tag("<text>")] | Annotated[tuple[TextPart, ...], Tag("<parts>")], _BY_TYPE]


class SystemMessage(ClientModel):
    """A system prompt."""

    role: Literal["system", "developer"]
    content: SystemContent
    name: Ignored = None


class UserMessage(ClientModel):
    """A message of the user."""

    role: Literal["user"]
    content: UserContent
    name: Ignored = None


class AssistantMessage(ClientModel):
    """An earlier reply, as the API returns it."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: Ignored = None
    annotations: Ignored = None
    audio: Annotated[Any, only()] = None
    function_call: Annotated[Any, only()] = None
    tool_calls: Annotated[Any, only([])] = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
MediaPart = ImagePart | VideoPart


def message_text(message: SystemMessage | UserMessage | AssistantMessage) -> str:
    """Return the text of a message, one line per part."""
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        return message.refusal or "" if isinstance(message, AssistantMessage) else ""
    texts = (part.text if isinstance(part, TextPart) else getattr(part, "refusal", None) for part in content)
    return "\n".join(text for text in texts if text is not None)


class StreamOptions(ClientModel):
    """``include_usage`` adds a last chunk with the token counts."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class ChatRequest(ClientModel):
    """Body of a chat completion request. Unknown fields are rejected by name, unless they are null."""

    model: str
    messages: tuple[Message, ...] = Field(min_length=1, max_length=256)

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1), INTEGRAL] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1), INTEGRAL] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: Annotated[int, INTEGRAL] | None = None

    # accepted with the values that leave the answer as it is
    audio: Annotated[Any, only()] = None
    frequency_penalty: Annotated[Any, only(0)] = None
    function_call: Annotated[Any, only("none", "auto")] = None
    functions: Annotated[Any, only([])] = None
    logit_bias: Annotated[Any, only({})] = None
    logprobs: Annotated[Any, only(False)] = None
    modalities: Annotated[Any, only(["text"])] = None
    moderation: Annotated[Any, only()] = None
    n: Annotated[Any, only(1)] = None
    presence_penalty: Annotated[Any, only(0)] = None
    reasoning_effort: Annotated[Any, only("none", "medium")] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    stop: Annotated[Any, only([])] = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    tools: Annotated[Any, only([])] = None
    top_logprobs: Annotated[Any, only(0)] = None
    verbosity: Annotated[Any, only("medium")] = None
    web_search_options: Annotated[Any, only()] = None

    # do not change the answer
    metadata: Ignored = None
    parallel_tool_calls: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    user: Ignored = None
