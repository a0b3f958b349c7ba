"""Result of a connection test of a source, for the server that writes it and the client that reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.config import JsonDict

from mmduet.protocol.wire import ServerModel

PROBE_EXAMPLE: JsonDict = {
    "url": "rtsp://camera.example/stream",
    "width": 1920,
    "height": 1080,
    "fps": 25.0,
    "duration": None,
    "live": True,
    "codec": "h264",
    "thumbnail": "data:image/jpeg;base64,...",
}


class SourceProbe(ServerModel):
    """A source that can be read: its size in pixels, rate, duration in seconds and codec, and its first frame.

    ``live`` states whether frames that are not read in time are lost. What the source does not declare is null. ``thumbnail``
    is a small JPEG of the frame as the model sees it, as a data URL. ``url`` has no credentials.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [PROBE_EXAMPLE]})

    ok: Literal[True] = True
    url: str
    width: int
    height: int
    fps: float | None = None
    duration: float | None = None
    live: bool
    codec: str | None = None
    thumbnail: str
