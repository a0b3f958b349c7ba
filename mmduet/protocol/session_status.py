"""The state of a session as the HTTP API reports it, for the server that writes it and the client that reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.config import JsonDict

from mmduet.protocol.server_events import Error, Session
from mmduet.protocol.wire import ServerModel

SourceState = Literal["connecting", "live", "retrying", "paused", "ended", "failed"]
SOURCE_EXAMPLE: JsonDict = {"url": "rtsp://camera.example/stream", "state": "retrying", "retry_in_s": 1.5}
FRAMES_EXAMPLE: JsonDict = {"received": 120, "scored": 117, "waiting": 1, "dropped": {"late": 2}, "newest_age_s": 0.4}


class SourceStatus(ServerModel):
    """A source that the server reads. ``url`` has no credentials.

    States: ``connecting``, no frame was read yet; ``live``, frames are read; ``retrying``, the connection broke and is opened
    again in ``retry_in_s`` seconds (0 during the attempt), for the reason in ``message``; ``paused``; ``ended``, at the
    source's end or on request; ``failed``, because of the error in ``message``. ``speed`` as in ``input_source.open``; null for
    a live source.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [SOURCE_EXAMPLE]})

    url: str
    state: SourceState
    retry_in_s: float | None = None
    message: str | None = None
    speed: float | None = None


class FrameStatus(ServerModel):
    """Number of frames: received so far, scored, dropped by reason, and waiting for their score.

    ``newest_age_s`` is the time since the newest frame arrived, in seconds; null before the first one.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [FRAMES_EXAMPLE]})

    received: int = 0
    scored: int = 0
    waiting: int = 0
    dropped: dict[str, int]
    newest_age_s: float | None = None


class LastReply(ServerModel):
    """The newest finished reply, and how many there have been; ``trigger_pts`` as in ``response.created``."""

    number: int
    text: str
    trigger_pts: int | None = None


class SessionStatus(ServerModel):
    """A session: whether it is ``open`` or ``ended``, its source, frames, newest reply and newest error.

    ``created_at`` is a Unix time in seconds; for a session that was restored, that of the server's start. ``connected``
    states whether a client reads the events. ``session`` has the settings, and in the answer about a single session the
    ``resume_token``, with which a WebSocket can take the session over.
    """

    id: str
    object: Literal["mmduet.session"] = "mmduet.session"
    state: Literal["open", "ended"]
    created_at: int
    connected: bool
    source: SourceStatus | None = None
    frames: FrameStatus
    last_reply: LastReply | None = None
    last_error: Error | None = None
    session: Session


class SessionList(ServerModel):
    """The sessions of the key or client secret that asks, newest first."""

    object: Literal["list"] = "list"
    data: tuple[SessionStatus, ...]
