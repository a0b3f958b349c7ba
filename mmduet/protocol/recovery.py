"""Puts a session together again from the facts of its journal: what it had watched, what still waits, what it had told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmduet.protocol.commands import Command, End, ReadTurn, SpeakNow, Watch
from mmduet.protocol.conversation import ConversationState
from mmduet.protocol.journal import Fact, Opened
from mmduet.protocol.log import Entry


@dataclass(frozen=True)
class Uttered:
    """A reply of the model's on the timeline."""

    text: str


Seen = Watch | ReadTurn | Uttered


@dataclass
class Recovered:
    """A session as it was when its server died.

    ``seen`` is what the model had seen, in its order: turns that stay, then what the window holds. ``waiting`` is what was
    accepted and not seen, in the order in which it is to be carried out.
    """

    opened: Opened | None = None
    state: ConversationState | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    frames: dict[int, Watch] = field(default_factory=dict)  # to be watched
    turns: dict[str, ReadTurn] = field(default_factory=dict)  # to be read
    read: set[str] = field(default_factory=set)
    order: list[Command] = field(default_factory=list)
    source: dict[str, Any] | None = None

    @property
    def complete(self) -> bool:
        """Whether enough is known to go on."""
        return self.opened is not None and self.state is not None

    @property
    def waiting(self) -> list[Command]:
        """What is still to be done; a reply that is owed comes before anything else."""
        alive = [command for command in self.order if self._alive(command)]
        return [SpeakNow(), *alive] if self.owing else alive

    @property
    def owing(self) -> bool:
        """Whether a reply was being told, which is to be said anew, or was about to be."""
        narrator = self.state.narrator if self.state is not None else None
        return narrator is not None and (narrator.speaking is not None or narrator.owing)

    def _alive(self, command: Command) -> bool:
        if isinstance(command, Watch):
            return command.index in self.frames
        return not isinstance(command, ReadTurn) or command.item in self.turns

    def take(self, fact: Fact) -> None:
        """The next fact."""
        match fact.kind:
            case "O":
                self.opened = fact.value
            case "S":
                self.state = ConversationState.parse(fact.text)
            case "E":
                self.entries[fact.number] = fact.value
            case "P":
                self.source = fact.value if fact.value["url"] is not None else None
            case "F" | "W" | "D":
                self._take_frame(fact)
            case "T" | "R" | "X":
                self._take_turn(fact)
            case "C":
                self.order.append(SpeakNow() if fact.text == "speak" else End())
            case "B":
                self.order.remove(SpeakNow()) if SpeakNow() in self.order else None
            case "A":
                self.seen.append(Uttered(fact.text))

    def _take_frame(self, fact: Fact) -> None:
        if fact.kind == "F":
            self.frames[fact.number] = fact.value
            self.order.append(fact.value)
            return
        watch = self.frames.pop(fact.number, None)
        if fact.kind == "W" and watch is not None:
            self.seen.append(watch)

    def _take_turn(self, fact: Fact) -> None:
        if fact.kind == "T":
            if fact.value.item not in self.turns and fact.value.item not in self.read:  # a snapshot says it again
                self.turns[fact.value.item] = fact.value
                self.order.append(fact.value)
            return
        turn = self.turns.pop(fact.text, None)
        if fact.kind == "R" and turn is not None:
            self.seen.append(turn)
            self.read.add(turn.item)

    def trim(self) -> None:
        """Forget what has slid out of the window."""
        self.order = [command for command in self.order if self._alive(command)]
        assert self.state is not None, "a journal without a state is not recovered"
        options = self.state.settings.options
        if not options.keep_replies:
            self.seen = [item for item in self.seen if not isinstance(item, Uttered)]
        frames = [place for place, item in enumerate(self.seen) if isinstance(item, Watch)]
        if options.window is None or len(frames) <= options.window:
            return
        first = frames[-options.window]
        self.seen = [
            *(item for item in self.seen[:first] if isinstance(item, ReadTurn) and item.stays),
            *self.seen[first:],
        ]


def recover(*journals: Iterable[Fact]) -> Recovered:
    """The session that these journals tell of, oldest first, each of which begins with what was before it."""
    recovered = Recovered()
    for journal in journals:
        for fact in journal:
            recovered.take(fact)
    if recovered.complete:
        recovered.trim()
    return recovered
