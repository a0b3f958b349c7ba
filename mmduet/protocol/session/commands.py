"""Commands of a conversation to the engine's driver, and the bounded queue in which they wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from mmduet.duet import is_turn_pinned
from mmduet.options import SpeakOptions
from mmduet.protocol.frames import EncodedImage
from mmduet.video.network import Transport


@dataclass(frozen=True)
class ScoreFrame:
    """Decode the image and score it. ``time`` is in seconds from the first frame.

    ``received_at`` is the time of arrival on the server's clock; None if the frame must be scored however old it is.
    """

    index: int
    time: float
    image: EncodedImage
    received_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AppendTurn:
    """Append a turn after every frame handed over before it.

    Item ids may repeat, therefore ``number`` identifies the turn.
    """

    item_id: str
    role: Literal["user", "system"]
    text: str
    keep: bool = False
    number: int = 0

    @property
    def is_pinned(self) -> bool:
        """Whether the turn stays in the context when the window moves on."""
        return is_turn_pinned(self.role, keep=self.keep)


@dataclass(frozen=True)
class SpeakNow:
    """Reply regardless of the policy, after all commands handed over before.

    ``recovered`` marks a reply that the previous server has not finished; it is not emitted if it repeats a recent one.
    """

    recovered: bool = False


@dataclass(frozen=True)
class CancelReply:
    """Stop reply number ``reply`` if it is still being generated. Overtakes all queued commands."""

    reply: int


@dataclass(frozen=True)
class UpdatePolicy:
    """Use these speak options from now on."""

    speak: SpeakOptions


@dataclass(frozen=True)
class OpenSource:
    """Read frames from ``url``. ``transport`` applies to RTSP cameras, ``speed`` to files; see ``client_events.OpenSource``.

    ``event_id`` is that of the client's event, for errors.
    """

    url: str
    transport: Transport = "tcp"
    speed: float | None = None
    event_id: str | None = None


@dataclass(frozen=True)
class UpdateSource:
    """Pause or continue the open source (``paused``, unless None), and read it at ``speed`` if ``sets_speed``.

    Overtakes everything but commands that open or close a source.
    """

    paused: bool | None = None
    speed: float | None = None
    sets_speed: bool = False
    event_id: str | None = None


@dataclass(frozen=True)
class CloseSource:
    """Stop reading frames from the source."""

    event_id: str | None = None


@dataclass(frozen=True)
class End:
    """No more frames follow: finish what is pending."""


Command = (
    ScoreFrame | AppendTurn | SpeakNow | CancelReply | UpdatePolicy | OpenSource | UpdateSource | CloseSource | End
)


MAX_IN_FLIGHT = 2
"""Frames of a session in the engine: one being scored and one being prepared. Only frames in the queue can be dropped."""


class CommandQueue:
    """Queued commands in order. At most ``max_frames`` of them are frames; the oldest ones are dropped."""

    def __init__(self, max_frames: int, max_turns: int) -> None:
        self._commands: deque[Command] = deque()
        self._max_frames, self._max_turns = max_frames, max_turns
        self._frame_count = self._turn_count = 0

    def __len__(self) -> int:
        return len(self._commands)

    @property
    def frame_count(self) -> int:
        """Number of queued frames."""
        return self._frame_count

    @property
    def can_accept_turn(self) -> bool:
        """Whether another command other than a frame may be queued."""
        return self._turn_count < self._max_turns

    def put(self, command: Command) -> ScoreFrame | None:
        """Add a command and return the frame that was dropped for it, if any."""
        if isinstance(command, CancelReply):
            self._commands.appendleft(command)
            return None
        self._commands.insert(self._position_of(command), command)
        if not isinstance(command, ScoreFrame):
            self._turn_count += 1
            return None
        self._frame_count += 1
        return self._pop_oldest_frame() if self._frame_count > self._max_frames else None

    def take(self, frames_in_flight: int = 0) -> Command | None:
        """Remove and return the next command, or return None if none can be executed yet.

        ``frames_in_flight`` frames are in the engine. A further frame is returned while there are fewer than
        ``MAX_IN_FLIGHT``; commands that depend on the preceding frames wait until all of them have been scored.
        """
        if not self._commands or frames_in_flight > _max_in_flight_before(self._commands[0]):
            return None
        command = self._commands.popleft()
        if isinstance(command, ScoreFrame):
            self._frame_count -= 1
        elif not isinstance(command, CancelReply):
            self._turn_count -= 1
        return command

    def pop_outdated(self, received_before: float, newest_before: float) -> list[ScoreFrame]:
        """Remove and return the frames that were received before ``received_before``, oldest first.

        The newest frame stays unless it was received before ``newest_before``: a slow engine still gets a frame to score.
        """
        if not self._frame_count:
            return []
        frames = [command for command in self._commands if isinstance(command, ScoreFrame)]
        outdated = [frame for frame in frames[:-1] if _is_older(frame, received_before)]
        outdated += [frame for frame in frames[-1:] if _is_older(frame, newest_before)]
        for frame in outdated:
            self._commands.remove(frame)
        self._frame_count -= len(outdated)
        return outdated

    def clear(self) -> list[ScoreFrame]:
        """Remove all commands and return the frames among them."""
        frames = [command for command in self._commands if isinstance(command, ScoreFrame)]
        self._commands.clear()
        self._frame_count = self._turn_count = 0
        return frames

    def _position_of(self, command: Command) -> int:
        """Return where a new command belongs in the queue."""
        if not isinstance(command, UpdateSource):
            return len(self._commands)
        about_source = [isinstance(queued, OpenSource | UpdateSource | CloseSource) for queued in self._commands]
        return max((number for number, is_last in enumerate(about_source, 1) if is_last), default=0)

    def _pop_oldest_frame(self) -> ScoreFrame:
        oldest = next(command for command in self._commands if isinstance(command, ScoreFrame))
        self._commands.remove(oldest)
        self._frame_count -= 1
        return oldest


def _is_older(frame: ScoreFrame, received_before: float) -> bool:
    return frame.received_at is not None and frame.received_at < received_before


def _max_in_flight_before(command: Command) -> int:
    """Return how many frames may be in the engine when the command is executed."""
    if isinstance(command, ScoreFrame):
        return MAX_IN_FLIGHT - 1
    return 0 if isinstance(command, AppendTurn | SpeakNow | End) else MAX_IN_FLIGHT
