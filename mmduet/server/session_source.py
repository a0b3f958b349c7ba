"""The source that the server reads into one session: opened, paused, changed in speed and closed; at most one at a time."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import RateLimitError
from mmduet.protocol.client_events import ClientEventBase, EndFrames
from mmduet.protocol.server_events import Error, ErrorEvent
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.frame_tracker import AcceptedFrame
from mmduet.protocol.source_events import FrameThumbnail, SourceClosed
from mmduet.server.key_limiter import KeyLimiter
from mmduet.server.log_events import SOURCE_ENDED
from mmduet.server.media import MediaLoader
from mmduet.server.metrics import Metrics
from mmduet.server.session_load import SessionLoad
from mmduet.server.source_pace import SourcePace
from mmduet.server.source_reader import SourceReader
from mmduet.server.thumbnails import Thumbnails
from mmduet.text import shorten_words

log = logging.getLogger(__name__)
SourceCommand = commands.OpenSource | commands.UpdateSource | commands.CloseSource


class SourceSession(Protocol):
    """The session of a source."""

    conversation: Conversation
    limiter: KeyLimiter
    owner: str
    last_message_at: float
    detached_at: float

    @property
    def suspended(self) -> bool:
        """Return whether another server continues the session."""
        ...

    def wake(self) -> None:
        """Process new frames and send new events."""

    def execute(self, event: ClientEventBase) -> None:
        """Process an event that has not come through a socket."""

    def journal_source(self, url: str | None) -> None:
        """Record the open source; None for none."""


class SessionSource:
    """The source of a session.

    Attributes:
        reader: What reads the open source; None while none is open.
        pace: Pause and speed of the source that is open, or about to be opened.
    """

    def __init__(
        self, session: SourceSession, media: MediaLoader, load: SessionLoad, metrics: Metrics, model_fps: float
    ) -> None:
        """``model_fps`` is the model's frame rate, up to which frames at a speed count as those of a live stream."""
        self.reader: SourceReader | None = None
        self.pace = SourcePace()
        self._session, self._media, self._load, self._metrics = session, media, load, metrics
        self._conversation, self._model_fps = session.conversation, model_fps
        self._thumbnails = Thumbnails()

    @property
    def is_open(self) -> bool:
        """Return whether the server reads frames, in which case no client needs to be connected."""
        return self.reader is not None

    async def execute(self, command: SourceCommand) -> None:
        """Execute a command; a failure is reported as an event."""
        match command:
            case commands.OpenSource():
                self._open(command)
            case commands.UpdateSource():
                self._update(command)
            case commands.CloseSource():
                await self._close(command)

    def set_paused(self, paused: bool) -> None:
        """Pause or continue, even if the source is about to be opened."""
        self.pace.paused = paused
        if self.reader is not None:
            self.reader.report_state()

    def take_thumbnail(self, frame: AcceptedFrame) -> FrameThumbnail | None:
        """Return the thumbnail of a frame that was scored, if it has one."""
        image = self._thumbnails.take(frame.pts)
        return None if image is None else FrameThumbnail(seq=frame.seq, pts=frame.pts, image=image)

    async def stop(self) -> None:
        """Stop reading, if a source is open."""
        if self.reader is not None:
            await self.reader.stop()

    def notify_frame_finished(self) -> None:
        """Report that a frame of the session was scored or dropped."""
        if self.reader is not None:
            self.reader.notify_frame_finished()

    def _open(self, command: commands.OpenSource) -> None:
        if self.reader is not None:
            self._fail(f"source {self.reader.url} is open; close it first", "source_is_open", event_id=command.event_id)
            return
        try:
            self._session.limiter.open_source(self._conversation.id)
        except RateLimitError as error:
            self._fail(str(error), error.code, event_id=command.event_id)
            return
        self.pace.set_speed(command.speed)
        self.reader = SourceReader(self, self._media, command, self.pace)
        self._session.journal_source(self.reader.url)
        self.reader.report_state()

    def _update(self, command: commands.UpdateSource) -> None:
        if self.reader is None:
            self._fail("no source is open; there is nothing to update", "no_source", event_id=command.event_id)
            return
        if command.speed is not None and self.reader.is_live:
            self.reject_speed(command.event_id)
            return
        if command.paused is not None:
            self.pace.paused = command.paused
        if command.sets_speed:
            self.pace.set_speed(command.speed)
        self.reader.report_state(always=True)

    async def _close(self, command: commands.CloseSource) -> None:
        if self.reader is None:
            self._fail("no source is open; there is nothing to close", "no_source", event_id=command.event_id)
            return
        await self.reader.stop()

    def _fail(self, message: str, code: str, *, param: str | None = None, event_id: str | None = None) -> None:
        error = Error(code=code, message=shorten_words(message), param=param, event_id=event_id)
        self._conversation.emit(ErrorEvent(error=error))
        self._session.wake()

    # Called by the reader

    @property
    def conversation(self) -> Conversation:
        """Return the conversation that receives frames and events."""
        return self._conversation

    async def wait_for_frame(self) -> None:
        """Wait until the limits of the key allow a frame."""
        await self._session.limiter.wait_for_frame(self._session.owner)

    @property
    def owner(self) -> str:
        """Return the owner of the session."""
        return self._session.owner

    def wake(self) -> None:
        """Process new frames and send new events."""
        self._session.wake()

    def reject_speed(self, event_id: str | None) -> None:
        """Report that a live source cannot be read at a speed."""
        url = self.reader.url if self.reader is not None else "the source"
        message = f"{url} is live and has a pace of its own, its speed is ignored; set speed to null"
        self._fail(message, "invalid_value", param="speed", event_id=event_id)

    def encode_thumbnail(self, image: NDArray[np.uint8]) -> str | None:
        """Return the thumbnail of a frame if one should be sent; called by the reader's thread."""
        is_wanted = self._conversation.settings.thumbnails and not self.pace.paused
        return self._thumbnails.encode(image) if is_wanted else None

    def add_thumbnail(self, pts: int, thumbnail: str) -> None:
        """Keep the thumbnail of a frame until it is scored."""
        self._thumbnails.add(pts, thumbnail)

    def on_frame(self, *, live: bool) -> None:
        """Count a frame that was read; ``live`` is False for a file."""
        self._load.reads_file = not (live or self._is_realtime)
        self._metrics.frames_received.inc()

    @property
    def _is_realtime(self) -> bool:
        """Whether a file offers frames at a rate of its own, up to the model's: a higher one must not close admission."""
        speed, fps = self.pace.speed, self._conversation.settings.fps
        return speed is not None and fps is not None and speed * fps <= self._model_fps

    def on_closed(self, event: SourceClosed) -> None:
        """Send the event, forget the source, and end the session if it was opened for the source alone."""
        session, conversation = self._session, self._conversation
        frames = self.reader.frame_count if self.reader is not None else None
        SOURCE_ENDED.emit(
            log, session=conversation.id, source=event.url, reason=event.reason, detail=event.message, frames=frames
        )
        self.reader, self.pace, self._load.reads_file = None, SourcePace(), False
        session.limiter.close_source(conversation.id)
        if session.suspended:
            return
        session.journal_source(None)
        if conversation.closed is None:
            conversation.emit(event)
        session.last_message_at = session.detached_at = monotonic()  # timeouts did not apply while the source was open
        session.wake()
        if conversation.ends_with_source and not conversation.ended and conversation.closed is None:
            session.execute(EndFrames(type="input_frame.end"))
