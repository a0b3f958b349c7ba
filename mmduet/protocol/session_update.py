"""The ``session`` object of ``session.update``: the settings that a client can change."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from mmduet.protocol.wire import INTEGRAL, ClientModel, Ignored, NullMeans, only

MAX_FPS = 240.0
MAX_FRAME_AGE_SECONDS = 86400.0
EXAMPLE: JsonDict = {"type": "realtime", "duet": {"fps": 2, "speak": {"min_interval": 3}}}
INF_MEANS_UNCHANGED = BeforeValidator(lambda value: None if value == "inf" else value)
"""Annotation of a limit for which ``"inf"``, OpenAI's default, keeps the session's limit."""


class SpeakUpdate(ClientModel):
    """When the model speaks. Fields that are left out keep their value."""

    policy: Literal["threshold", "sum", "never"] | None = None
    value: float | None = Field(default=None, ge=0)
    heads: tuple[Literal["informative", "relevance"], ...] | None = Field(default=None, min_length=1)
    min_interval: float | None = Field(default=None, ge=0)
    repeat_window: float | None = Field(default=None, ge=0)
    at_end: bool | None = None
    unasked: bool | None = None


class DuetUpdate(ClientModel):
    """Settings that extend the Realtime API.

    ``window: null`` keeps every frame; ``fps: null`` accepts every frame sent. A frame that has waited longer than
    ``max_frame_age`` seconds is dropped as ``late``; null keeps frames however old they are. With ``thumbnails``, small images
    of the frames of a source are sent as ``input_frame.thumbnail``.
    """

    fps: float | None = Field(default=None, gt=0, le=MAX_FPS)
    speak: Annotated[SpeakUpdate, NullMeans(SpeakUpdate())] = SpeakUpdate()
    keep_replies: bool | None = None
    profile: Literal["fixed", "paper"] | None = None
    window: Annotated[int, Field(ge=1), INTEGRAL] | None = None
    adapter: str | None = None
    scores: bool | None = None
    ack: bool | None = None
    max_frame_age: float | None = Field(default=None, gt=0, le=MAX_FRAME_AGE_SECONDS)
    thumbnails: bool | None = None


class SessionUpdate(ClientModel):
    """The ``session`` of ``session.update``. Fields that are left out or null keep their value.

    Fields of OpenAI's that have no effect here are accepted with their default, and rejected by name with another value that
    would change the replies.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: Literal["realtime"]
    model: str | None = None
    instructions: str | None = None
    output_modalities: tuple[Literal["text"], ...] | None = None
    max_output_tokens: Annotated[Annotated[int, Field(ge=1), INTEGRAL] | None, INF_MEANS_UNCHANGED] = None
    audio: Annotated[Any, only()] = None
    include: Annotated[Any, only([])] = None
    parallel_tool_calls: Ignored = None
    prompt: Annotated[Any, only()] = None
    reasoning: Annotated[Any, only()] = None
    tool_choice: Annotated[Any, only("auto", "none")] = None
    tools: Annotated[Any, only([])] = None
    tracing: Ignored = None
    truncation: Annotated[Any, only("auto")] = None
    duet: Annotated[DuetUpdate, NullMeans(DuetUpdate())] = DuetUpdate()
