"""Events about a source that the server reads: opened, changes of its state, thumbnails of its frames, closed."""

from __future__ import annotations

from typing import Literal

from mmduet.protocol.source_damage import SourceDamage
from mmduet.protocol.wire import ServerEvent

CloseReason = Literal["asked", "ended", "failed"]
OpenSourceState = Literal["connecting", "live", "retrying", "paused"]


class SourceOpened(ServerEvent):
    """The server has started to read frames from the source. ``url`` has no credentials."""

    type: Literal["input_source.opened"] = "input_source.opened"
    url: str
    width: int
    height: int


class SourceUpdated(ServerEvent):
    """State and speed of the source: sent whenever the state changes, and as the answer to ``input_source.update``.

    States: ``connecting``, the source is being opened; ``live``, frames are read; ``retrying``, the connection broke and is
    opened again in ``retry_in_s`` seconds, for the reason in ``message``; ``paused``, a file is not read, and frames of a live
    source are dropped. ``speed`` is null for a file that is read as fast as its frames are scored, and for a live source.
    """

    type: Literal["input_source.updated"] = "input_source.updated"
    url: str
    state: OpenSourceState
    retry_in_s: float | None = None
    message: str | None = None
    speed: float | None = None


class FrameThumbnail(ServerEvent):
    """A small JPEG of a frame of the source as the model sees it, as a data URL; only with ``duet.thumbnails``.

    It follows the ``input_frame.scored`` of the frame. Not every frame has one: there are at most four per second on average,
    and a client that reads slowly gets only the newest. It is the only event without ``event_id``: it is neither journaled nor
    sent again after a resume.
    """

    type: Literal["input_frame.thumbnail"] = "input_frame.thumbnail"
    seq: int
    pts: int
    image: str


class SourceClosed(ServerEvent):
    """The server has stopped reading: on request (`asked`), at the source's end, or because of the error in ``message``."""

    type: Literal["input_source.closed"] = "input_source.closed"
    url: str
    reason: CloseReason
    message: str | None = None
    damage: SourceDamage | None = None
