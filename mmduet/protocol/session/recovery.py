"""Rebuilds a session from the records of its journal: its history, its pending commands and its events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmduet.duet import ContextLayout, Segment
from mmduet.protocol.server_events import Item
from mmduet.protocol.session.commands import AppendTurn, Command, End, ScoreFrame, SpeakNow
from mmduet.protocol.session.conversation_state import ConversationState
from mmduet.protocol.session.event_emitter import SERVER_RESTARTED
from mmduet.protocol.session.event_log import LogEntry
from mmduet.protocol.session.journal import JournalRecord, JournalWriter, SessionOpened


@dataclass(frozen=True)
class RecordedReply:
    """A finished reply of the model."""

    text: str


@dataclass(frozen=True)
class PastReplies:
    """What a session's policy remembers of its replies.

    Attributes:
        texts: Stream time in seconds of the frame that triggered each reply, and its text.
        triggered_at: Stream time of the last frame that triggered a reply by its scores.
    """

    texts: tuple[tuple[float, str], ...] = ()
    triggered_at: float = float("-inf")


ReplayItem = ScoreFrame | AppendTurn | RecordedReply


@dataclass
class RecoveredSession:
    """A session as it was when its server stopped.

    Attributes:
        opened: Identity of the session; None if the journal has none.
        state: State of the conversation; None if the journal has none.
        entries: Entries of the event log by number.
        history: What the model has in its context, in order: pinned turns, then the contents of the window.
        items: Items of all recorded turns by turn number, as the server reports them.
        source: URL of the open or queued source, without credentials.
    """

    opened: SessionOpened | None = None
    state: ConversationState | None = None
    entries: dict[int, LogEntry] = field(default_factory=dict)
    history: list[ReplayItem] = field(default_factory=list)
    items: dict[int, Item] = field(default_factory=dict)
    source: str | None = None
    _state_json: str = ""
    _unscored_frames: dict[int, ScoreFrame] = field(default_factory=dict)
    _unread_turns: dict[int, AppendTurn] = field(default_factory=dict)
    _commands: list[Command] = field(default_factory=list)

    @property
    def pending_commands(self) -> list[Command]:
        """Commands that were accepted but not finished, in order. A pending reply comes first."""
        return [SpeakNow(recovered=True), *self._commands] if self.reply_pending else self._commands

    @property
    def reply_pending(self) -> bool:
        """Whether a triggered reply was not finished and must be generated again."""
        return self.state is not None and self.state.emitter.reply_pending

    @property
    def past_replies(self) -> PastReplies:
        """The replies among the recorded events, without those that are cut and generated again."""
        origin = self.state.origin if self.state is not None else None
        texts, triggers, forced = list[tuple[float, str]](), set[int](), dict[int, bool]()
        for entry in self.entries.values():
            event = json.loads(entry.text)
            match event:
                case {"type": "input_frame.scored", "decision": "speak", "pts": pts}:
                    triggers.add(pts)
                case {"type": "response.done", "response": {"duet": {"trigger_pts": int(pts)} as duet} as response}:
                    forced.setdefault(pts, duet["forced"])  # a reply that is generated again is always forced
                    if (response.get("status_details") or {}).get("reason") != SERVER_RESTARTED:
                        texts.append(((pts - (origin or 0)) / 1e6, _text_of(response)))
        own = [(pts - (origin or 0)) / 1e6 for pts in triggers if not forced.get(pts, False)]
        triggered_at = max(own, default=float("-inf"))
        return PastReplies(tuple(texts), triggered_at)

    def apply(self, record: JournalRecord) -> None:
        """Apply the next record."""
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
        frame = self._unscored_frames.pop(record.number, None)
        if record.kind == "W" and frame is not None:
            self.history.append(frame)

    def _apply_turn(self, record: JournalRecord) -> None:
        if record.kind == "T":
            turn, item = record.value
            self._unread_turns[turn.number], self.items[turn.number] = turn, item
            self._commands.append(turn)
            return
        turn = self._unread_turns.pop(record.number, None)
        if turn is not None and record.kind == "R":
            self.history.append(turn)

    def finish(self) -> None:
        """Remove finished commands, and everything that has left the window, after the last record."""
        self._commands = [command for command in self._commands if self._is_pending(command)]
        if not self._state_json:
            return
        self.state = ConversationState.from_json(self._state_json)
        options = self.state.settings.options
        if not options.keep_replies:
            self.history = [item for item in self.history if not isinstance(item, RecordedReply)]
        if options.window is not None:
            context = ContextLayout(tuple(_to_segment(item) for item in self.history))
            evictions = context.evictions_needed(max_frames=options.window)
            self.history = [self.history[i] for i in context.retained(evictions)]

    def _is_pending(self, command: Command) -> bool:
        if isinstance(command, ScoreFrame):
            return command.index in self._unscored_frames
        return not isinstance(command, AppendTurn) or command.number in self._unread_turns

    def write_to(self, journal: JournalWriter, entries: Iterable[LogEntry]) -> None:
        """Write everything except the state to a new journal, with ``entries`` as its event log."""
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


def _text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


def _to_segment(item: ReplayItem) -> Segment:
    """Return the item as the window rule sees it. Its number of tokens is not known here."""
    pinned = isinstance(item, AppendTurn) and item.is_pinned
    return Segment(0, pinned=pinned, is_frame=isinstance(item, ScoreFrame))


def recover(records: Iterable[JournalRecord]) -> RecoveredSession:
    """Return the session that the records describe. ``opened`` and ``state`` are None if they are not recorded."""
    recovered = RecoveredSession()
    for record in records:
        recovered.apply(record)
    recovered.finish()
    return recovered
