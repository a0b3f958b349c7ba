"""What a conversation asks of whoever drives the engine, in the order in which it is to be done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from mmduet.options import SpeakOptions
from mmduet.protocol.frames import Picture
from mmduet.video.rtsp import Transport


@dataclass(frozen=True)
class Watch:
    """Decode the picture and have it watched; ``time`` in seconds from the first frame."""

    index: int
    time: float
    picture: Picture


@dataclass(frozen=True)
class ReadTurn:
    """Have a turn read after every frame that was handed over before it; ``number`` counts them, names may recur."""

    item: str
    role: Literal["user", "system"]
    text: str
    keep: bool = False
    number: int = 0

    @property
    def stays(self) -> bool:
        """Whether it is in view for as long as the session lasts, once it has been read."""
        return self.role == "user" or self.keep


@dataclass(frozen=True)
class SpeakNow:
    """Have the model reply, whatever the policy says, after everything that was handed over before."""


@dataclass(frozen=True)
class Cancel:
    """Stop reply number ``reply``, if it is still being written; overtakes everything that waits."""

    reply: int


@dataclass(frozen=True)
class Revise:
    """Speak by these options from now on."""

    speak: SpeakOptions


@dataclass(frozen=True)
class OpenSource:
    """Pull frames from ``url``; ``transport`` is how an RTSP camera sends them."""

    url: str
    transport: Transport = "tcp"


@dataclass(frozen=True)
class CloseSource:
    """Stop pulling."""


@dataclass(frozen=True)
class End:
    """No more frames: finish what is pending."""


Command = Watch | ReadTurn | SpeakNow | Cancel | Revise | OpenSource | CloseSource | End


MOST_IN_FLIGHT = 2
"""Frames of a session with the engine: one being watched and one made ready. The others wait here, where they can give way."""


class Mailbox:
    """Commands that wait, in order. At most ``max_frames`` of them are frames: the oldest give way."""

    def __init__(self, max_frames: int, max_turns: int) -> None:
        self._waiting: deque[Command] = deque()
        self._max_frames, self._max_turns = max_frames, max_turns
        self._frames = self._turns = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def frames(self) -> int:
        """Frames that wait."""
        return self._frames

    @property
    def has_room_for_turns(self) -> bool:
        """Whether another turn, or a wish for a reply, may wait."""
        return self._turns < self._max_turns

    def put(self, command: Command) -> Watch | None:
        """Add a command; returns the frame that had to give way, if one had."""
        if isinstance(command, Cancel):
            self._waiting.appendleft(command)
            return None
        self._waiting.append(command)
        if not isinstance(command, Watch):
            self._turns += 1
            return None
        self._frames += 1
        return self._oldest_frame() if self._frames > self._max_frames else None

    def take(self, in_flight: int = 0) -> Command | None:
        """The next command, None where none may be carried out yet.

        ``in_flight`` frames are with the engine: one more is handed over while fewer than ``MOST_IN_FLIGHT`` are, what has its
        place after frames only when they have all been watched.
        """
        if not self._waiting or in_flight > _most_before(self._waiting[0]):
            return None
        command = self._waiting.popleft()
        if isinstance(command, Watch):
            self._frames -= 1
        elif not isinstance(command, Cancel):
            self._turns -= 1
        return command

    def clear(self) -> list[Watch]:
        """Forget everything; returns the frames that were waiting."""
        frames = [command for command in self._waiting if isinstance(command, Watch)]
        self._waiting.clear()
        self._frames = self._turns = 0
        return frames

    def _oldest_frame(self) -> Watch:
        oldest = next(command for command in self._waiting if isinstance(command, Watch))
        self._waiting.remove(oldest)
        self._frames -= 1
        return oldest


def _most_before(command: Command) -> int:
    """How many frames may be with the engine when the command is carried out."""
    if isinstance(command, Watch):
        return MOST_IN_FLIGHT - 1
    return 0 if isinstance(command, ReadTurn | SpeakNow | End) else MOST_IN_FLIGHT
