"""Support for the protocol's tests: client messages, a scripted engine, and the events as a client receives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmduet.events import Context, ContextRead, Query, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores, StreamEnded
from mmduet.options import SessionOptions
from mmduet.protocol.event_ids import parse_event_id
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.protocol.session import commands
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.limits import SessionLimits
from mmduet.protocol.session.settings import SessionSettings

PNG = b"\x89PNG\r\n\x1a\n rest"


def conversation(
    fps: float | None = None, admit: Callable[[SessionSettings], None] = lambda settings: None, **limits: Any
) -> Conversation:
    settings = SessionSettings("nano", SessionOptions(window=4), fps)
    return Conversation("s", settings, SessionLimits(**limits), admit=admit)


def message(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def frame(seq: int, pts: int, data: bytes = PNG) -> bytes:
    return pack_frame(seq, pts, EncodedImage(ImageFormat.PNG, data))


def query(text: str, role: str = "user", **fields: Any) -> str:
    item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}], **fields}
    return message("conversation.item.create", item=item)


def update(duet: dict[str, Any] | None = None, **fields: Any) -> str:
    return message(
        "session.update", session={"type": "realtime", **fields, **({"duet": duet} if duet is not None else {})}
    )


def events(talk: Conversation, after: int = 0) -> list[dict[str, Any]]:
    """Everything the log still holds after ``after``, as a client reads it."""
    found = []
    while (entry := talk.log.next_after(after, subscriber=0)) is not None:
        found.append(json.loads(entry.text))
        assert parse_event_id(found[-1]["event_id"]) == entry.number > after
        after = entry.number
    return found


def kinds(talk: Conversation, after: int = 0) -> list[str]:
    return [event["type"] for event in events(talk, after)]


@dataclass
class Echo:
    """An engine that scores every frame, speaks where it is set to, and says ``word`` each time."""

    talk: Conversation
    word: str = "seen"
    speaks_at: frozenset[int] = frozenset()
    replies: int = 0
    watched: list[int] = field(default_factory=list)
    time: float = 0.0
    over: bool = False

    def step(self, now: float = 0.0) -> bool:
        """Carry out one command; False where none waits."""
        command = self.talk.next_command()
        tell = lambda output: self.talk.on_output(output, now)  # noqa: E731
        match command:
            case None:
                return False
            case commands.ScoreFrame():
                speak = command.index in self.speaks_at
                self.watched.append(command.index)
                self.time = command.time
                tell(Scores(command.index, command.time, 0.25, 0.5, speak))
                if speak:
                    self._say(tell, forced=False)
            case commands.AppendTurn(role="user"):
                tell(QueryRead(Query(command.text), self.time))
            case commands.AppendTurn():
                tell(ContextRead(Context(command.text), self.time))
            case commands.SpeakNow():
                self._say(tell, forced=True)
            case commands.End():
                self.over = True
                tell(StreamEnded(len(self.watched), self.time))
        return True

    def run(self, now: float = 0.0) -> None:
        """Carry out everything."""
        while self.step(now):
            pass

    def _say(self, tell: Any, *, forced: bool) -> None:
        frame = self.watched[-1] if self.watched else -1
        tell(ReplyStarted(self.replies, frame, self.time, forced))
        tell(ReplyDelta(self.replies, self.word))
        tell(Reply(self.replies, frame, self.time, self.word, 1, "stop", forced, 7))
        self.replies += 1
