"""Puts a session together again from the facts of its journal: what it had watched, what still waits, what it had told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mmduet.protocol.server_events import ItemTold
from mmduet.protocol.session.commands import Command, End, ReadTurn, SpeakNow, Watch
from mmduet.protocol.session.conversation import ConversationState
from mmduet.protocol.session.event_log import Entry
from mmduet.protocol.session.journal import Fact, Opened, Scribe


@dataclass(frozen=True)
class Uttered:
    """A reply of the model's on the timeline."""

    text: str


Seen = Watch | ReadTurn | Uttered


@dataclass
class Recovered:
    """A session as it was when its server died.

    ``seen`` is what the model had seen, in its order: turns that stay, then what the window holds. ``waiting`` is what was
    accepted and not seen, in the order in which it is to be carried out, ``items`` its turns as the client was told of them.
    """

    opened: Opened | None = None
    state: ConversationState | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    items: dict[int, ItemTold] = field(default_factory=dict)
    source: str | None = None  # what was being pulled
    _state: str = ""
    _frames: dict[int, Watch] = field(default_factory=dict)  # to be watched
    _turns: dict[int, ReadTurn] = field(default_factory=dict)  # to be read
    _order: list[Command] = field(default_factory=list)

    @property
    def waiting(self) -> list[Command]:
        """What is still to be done; a reply that is owed comes before anything else."""
        return [SpeakNow(), *self._order] if self.owing else self._order

    @property
    def owing(self) -> bool:
        """Whether a reply was being told, which is to be said anew, or was about to be."""
        return self.state is not None and self.state.narrator.owes

    def take(self, fact: Fact) -> None:
        """The next fact."""
        match fact.kind:
            case "O":
                self.opened = fact.value
            case "S":
                self._state = fact.text
            case "E":
                self.entries[fact.number] = fact.value
            case "P":
                self.source = fact.value
            case "F" | "W" | "D":
                self._take_frame(fact)
            case "T" | "R" | "X":
                self._take_turn(fact)
            case "C":
                self._order.append(SpeakNow() if fact.text == "speak" else End())
            case "B":
                self._order.remove(SpeakNow())
            case "A":
                self.seen.append(Uttered(fact.text))

    def _take_frame(self, fact: Fact) -> None:
        if fact.kind == "F":
            self._frames[fact.number] = fact.value
            self._order.append(fact.value)
            return
        watch = self._frames.pop(fact.number, None)
        if fact.kind == "W" and watch is not None:
            self.seen.append(watch)

    def _take_turn(self, fact: Fact) -> None:
        if fact.kind == "T":
            turn, told = fact.value
            self._turns[turn.number], self.items[turn.number] = turn, told
            self._order.append(turn)
            return
        read = self._turns.pop(fact.number, None)
        if read is not None and fact.kind == "R":
            self.seen.append(read)

    def settle(self) -> None:
        """After the last fact: forget what is done, and what has slid out of the window."""
        self._order = [command for command in self._order if self._waits(command)]
        if not self._state:
            return
        self.state = ConversationState.parse(self._state)
        options = self.state.settings.options
        if not options.keep_replies:
            self.seen = [item for item in self.seen if not isinstance(item, Uttered)]
        frames = [place for place, item in enumerate(self.seen) if isinstance(item, Watch)]
        if options.window is not None and len(frames) > options.window:
            first = frames[-options.window]
            stay = (item for item in self.seen[:first] if isinstance(item, ReadTurn) and item.stays)
            self.seen = [*stay, *self.seen[first:]]

    def _waits(self, command: Command) -> bool:
        if isinstance(command, Watch):
            return command.index in self._frames
        return not isinstance(command, ReadTurn) or command.number in self._turns

    def write(self, scribe: Scribe, entries: Iterable[Entry]) -> None:
        """All of it as the beginning of another journal, but for the state, which comes last."""
        scribe.opened()
        for item in self.seen:
            if isinstance(item, Watch):
                scribe.frame(item)
                scribe.watched(item.index)
            elif isinstance(item, ReadTurn):
                scribe.turn(item, self.items[item.number])
                scribe.read(item.number)
            else:
                scribe.said(item.text)
        for command in self._order:
            if isinstance(command, Watch):
                scribe.frame(command)
            elif isinstance(command, ReadTurn):
                scribe.turn(command, self.items[command.number])
            else:
                scribe.wanted("speak" if isinstance(command, SpeakNow) else "end")
        scribe.source(self.source)
        for entry in entries:
            scribe.event(entry)


def recover(journal: Iterable[Fact]) -> Recovered:
    """The session that a journal tells of; without ``opened`` and ``state`` where it tells of none."""
    recovered = Recovered()
    for fact in journal:
        recovered.take(fact)
    recovered.settle()
    return recovered
