"""Puts a session together again from the facts of its journal: what it had watched, what still waits, what it had told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mmduet.protocol.server_events import Item
from mmduet.protocol.session.commands import AppendTurn, Command, End, ScoreFrame, SpeakNow
from mmduet.protocol.session.conversation_state import ConversationState
from mmduet.protocol.session.event_log import LogEntry
from mmduet.protocol.session.journal import JournalRecord, JournalWriter, SessionOpened


@dataclass(frozen=True)
class RecordedReply:
    """A reply of the model's on the timeline."""

    text: str


ReplayItem = ScoreFrame | AppendTurn | RecordedReply


@dataclass
class RecoveredSession:
    """A session as it was when its server died.

    ``seen`` is what the model had seen, in its order: turns that stay, then what the window holds. ``waiting`` is what was
    accepted and not seen, in the order in which it is to be carried out, ``items`` its turns as the client received them.
    """

    opened: SessionOpened | None = None
    state: ConversationState | None = None
    entries: dict[int, LogEntry] = field(default_factory=dict)
    history: list[ReplayItem] = field(default_factory=list)
    items: dict[int, Item] = field(default_factory=dict)
    source: str | None = None  # what was being pulled
    _state_json: str = ""
    _unscored_frames: dict[int, ScoreFrame] = field(default_factory=dict)  # to be watched
    _unread_turns: dict[int, AppendTurn] = field(default_factory=dict)  # to be read
    _commands: list[Command] = field(default_factory=list)

    @property
    def pending_commands(self) -> list[Command]:
        """What is still to be done; a reply that is owed comes before anything else."""
        return [SpeakNow(), *self._commands] if self.reply_pending else self._commands

    @property
    def reply_pending(self) -> bool:
        """Whether a reply was being told, which is to be repeated, or was about to be."""
        return self.state is not None and self.state.emitter.reply_pending

    def apply(self, record: JournalRecord) -> None:
        """The next fact."""
        match record.kind:
            case "O":
                self.opened = record.value
            case "S":
                self._state_json = record.text
            case "E":
                self.entries[record.number] = record.value
            case "P":
                self.source = record.value
            case "F" | "W" | "D":
                self._apply_frame(record)
            case "T" | "R" | "X":
                self._apply_turn(record)
            case "C":
                self._commands.append(SpeakNow() if record.text == "speak" else End())
            case "B":
                self._commands.remove(SpeakNow())
            case "A":
                self.history.append(RecordedReply(record.text))

    def _apply_frame(self, record: JournalRecord) -> None:
        if record.kind == "F":
            self._unscored_frames[record.number] = record.value
            self._commands.append(record.value)
            return
        watch = self._unscored_frames.pop(record.number, None)
        if record.kind == "W" and watch is not None:
            self.history.append(watch)

    def _apply_turn(self, record: JournalRecord) -> None:
        if record.kind == "T":
            turn, told = record.value
            self._unread_turns[turn.number], self.items[turn.number] = turn, told
            self._commands.append(turn)
            return
        read = self._unread_turns.pop(record.number, None)
        if read is not None and record.kind == "R":
            self.history.append(read)

    def finish(self) -> None:
        """After the last fact: forget what is done, and what has slid out of the window."""
        self._commands = [command for command in self._commands if self._is_waiting(command)]
        if not self._state_json:
            return
        self.state = ConversationState.from_json(self._state_json)
        options = self.state.settings.options
        if not options.keep_replies:
            self.history = [item for item in self.history if not isinstance(item, RecordedReply)]
        frames = [place for place, item in enumerate(self.history) if isinstance(item, ScoreFrame)]
        if options.window is not None and len(frames) > options.window:
            first = frames[-options.window]
            stay = (item for item in self.history[:first] if isinstance(item, AppendTurn) and item.is_pinned)
            self.history = [*stay, *self.history[first:]]

    def _is_waiting(self, command: Command) -> bool:
        if isinstance(command, ScoreFrame):
            return command.index in self._unscored_frames
        return not isinstance(command, AppendTurn) or command.number in self._unread_turns

    def write_to(self, journal: JournalWriter, entries: Iterable[LogEntry]) -> None:
        """All of it as the beginning of another journal, but for the state, which comes last."""
        journal.write_session()
        for item in self.history:
            if isinstance(item, ScoreFrame):
                journal.frame_accepted(item)
                journal.frame_scored(item.index)
            elif isinstance(item, AppendTurn):
                journal.turn_accepted(item, self.items[item.number])
                journal.turn_read(item.number)
            else:
                journal.reply_finished(item.text)
        for command in self._commands:
            if isinstance(command, ScoreFrame):
                journal.frame_accepted(command)
            elif isinstance(command, AppendTurn):
                journal.turn_accepted(command, self.items[command.number])
            else:
                journal.command_queued("speak" if isinstance(command, SpeakNow) else "end")
        journal.source_changed(self.source)
        for entry in entries:
            journal.event_emitted(entry)


def recover(journal: Iterable[JournalRecord]) -> RecoveredSession:
    """The session that a journal tells of; without ``opened`` and ``state`` where it tells of none."""
    recovered = RecoveredSession()
    for fact in journal:
        recovered.apply(fact)
    recovered.finish()
    return recovered
