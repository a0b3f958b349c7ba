"""A session can be recovered from its journal, wherever writing stopped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_partner import Echo, conversation, events, frame, message, query

from mmduet.events import ReplyDelta, ReplyStarted, Scores
from mmduet.options import SessionOptions
from mmduet.protocol.session.commands import AppendTurn, CancelReply, End, ScoreFrame, SpeakNow
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.journal import MAGIC, JournalWriter, SessionOpened, complete_length, read_records
from mmduet.protocol.session.limits import SessionLimits
from mmduet.protocol.session.recovery import RecordedReply, RecoveredSession, recover
from mmduet.protocol.session.settings import SessionSettings

OPENED = SessionOpened("s", "token", "somebody", "nano")
WINDOW = 4
SETTINGS = SessionSettings("nano", SessionOptions(window=WINDOW, keep_replies=True), None)


class JournaledConversation:
    """A conversation with a journal. ``states`` has its state and last event by journal length after each batch."""

    def __init__(self) -> None:
        self.writer = JournalWriter(OPENED)
        self.talk = Conversation("s", SETTINGS, SessionLimits(max_waiting_frames=6), journal=self.writer)
        self.writer.write_session()
        self.journal = bytearray(MAGIC)
        self.states: dict[int, tuple[bytes, int]] = {}
        self.commit()

    def commit(self) -> None:
        self.writer.state_changed(self.talk.state.to_json())
        self.journal += self.writer.take_batch()
        self.states[len(self.journal)] = (self.talk.state.to_json(), self.talk.log.last_number)


def steps() -> st.SearchStrategy[list[str]]:
    return st.lists(
        st.sampled_from(["frame", "frame", "late", "query", "keep", "pass", "speak", "run", "one"]), max_size=40
    )


def play(journaled: JournaledConversation, step: str, place: int, echo: Echo) -> None:
    talk = journaled.talk
    match step:
        case "frame" | "late":
            talk.receive(frame(place, place * 1000 if step == "frame" else 0), 0.0)
        case "query":
            talk.receive(query(f"q{place}", id=f"item{place}"), 0.0)
        case "keep" | "pass":
            talk.receive(query(f"c{place}", "system", id=f"item{place}", duet={"keep": step == "keep"}), 0.0)
        case "speak":
            talk.receive(message("response.create"), 0.0)
        case "run":
            echo.run()
        case "one":
            echo.step()
    journaled.commit()


def restored(found: RecoveredSession) -> Conversation:
    assert found.state is not None
    log = EventLog(entries=[found.entries[n] for n in sorted(found.entries)])
    talk = Conversation("s", found.state.settings, SessionLimits(max_waiting_frames=6), log)
    talk.restore(found.state, found.pending_commands, found.items, 0.0)
    return talk


@given(steps(), st.floats(0, 1))
def test_truncated_journal_finishes_every_frame_and_turn_once(actions: list[str], where: float) -> None:
    journaled = JournaledConversation()
    echo = Echo(journaled.talk)
    for place, step in enumerate(actions):
        play(journaled, step, place, echo)
    first = min(journaled.states)
    cut = first + round(where * (len(journaled.journal) - first))
    whole = max(end for end in journaled.states if end <= cut)
    torn = bytes(journaled.journal[:cut])
    assert complete_length(torn) == whole

    found = recover(read_records(torn))
    assert found.state is not None
    state, last = journaled.states[whole]
    assert found.state.to_json() == state
    assert max(found.entries, default=0) == last
    talk = restored(found)
    Echo(talk).run()
    talk.receive(message("input_frame.end"), 0.0)
    Echo(talk).run()
    emitted = events(talk)
    assert emitted[-1]["type"] == "session.closed"
    ended = [e["seq"] for e in emitted if e["type"] in ("input_frame.scored", "input_frame.dropped")]
    assert len(ended) == talk.frame_counts["received"]
    assert sorted(ended) == sorted(set(ended))
    read = [
        e["item"]["id"] for e in emitted if e["type"] == "conversation.item.done" and e["item"]["role"] != "assistant"
    ]
    assert sorted(read) == sorted(set(read))
    put = [
        e["item"]["id"] for e in emitted if e["type"] == "conversation.item.added" and e["item"]["role"] != "assistant"
    ]
    assert sorted(put) == sorted(read)


@given(steps())
def test_recovered_history_is_the_window(actions: list[str]) -> None:
    journaled = JournaledConversation()
    echo = Echo(journaled.talk)
    for place, step in enumerate([*actions, "run"]):
        play(journaled, step, place, echo)
    found = recover(read_records(bytes(journaled.journal)))
    emitted = events(journaled.talk)
    watched = [e["seq"] for e in emitted if e["type"] == "input_frame.scored"]
    frames = [item for item in found.history if isinstance(item, ScoreFrame)]
    assert [frame.time * 1e6 for frame in frames] == pytest.approx(
        [
            e["pts"] - next(x["pts"] for x in emitted if "pts" in x)
            for e in emitted
            if e["type"] == "input_frame.scored"
        ][-WINDOW:]
    )
    assert len(frames) == min(len(watched), WINDOW)
    stay = [item.item_id for item in found.history if isinstance(item, AppendTurn) and item.is_pinned]
    requested = [e["item"] for e in emitted if e["type"] == "conversation.item.done" and e["item"]["role"] == "user"]
    assert [item["id"] for item in requested] == [item for item in stay if item in {i["id"] for i in requested}]


def test_interrupted_reply_is_finished_and_repeated() -> None:
    journaled = JournaledConversation()
    talk, echo = journaled.talk, Echo(journaled.talk)
    talk.receive(frame(0, 0), 0.0)
    echo.run()
    talk.receive(message("response.create", response={"metadata": {"a": "b"}}), 0.0)
    journaled.commit()
    assert isinstance(talk.next_command(), SpeakNow)
    talk.on_output(ReplyStarted(0, 0, 0.0, forced=True), 0.0)
    talk.on_output(ReplyDelta(0, "A red"), 0.0)
    journaled.commit()
    found = recover(read_records(bytes(journaled.journal)))
    restored_talk = restored(found)
    done = [e["response"] for e in events(restored_talk) if e["type"] == "response.done"]
    assert [(d["status"], d["status_details"]["reason"]) for d in done] == [("cancelled", "server_restarted")]
    assert done[0]["output"][0]["content"][0]["text"] == "A red"
    assert isinstance(restored_talk.next_command(), SpeakNow)
    assert restored_talk.next_command() is None


def compacted(journaled: JournaledConversation) -> bytes:
    """A journal of what is still needed, as it is compacted."""
    found, writer = recover(read_records(bytes(journaled.journal))), JournalWriter(OPENED)
    found.write_to(writer, journaled.talk.log.entries)
    writer.state_changed(journaled.talk.state.to_json())
    return MAGIC + writer.take_batch()


@given(steps())
def test_compacted_journal_recovers_the_same_session(actions: list[str]) -> None:
    journaled = JournaledConversation()
    echo = Echo(journaled.talk)
    for place, step in enumerate(actions):
        play(journaled, step, place, echo)
    before, after = recover(read_records(bytes(journaled.journal))), recover(read_records(compacted(journaled)))
    assert (after.history, after.pending_commands, after.entries) == (
        before.history,
        before.pending_commands,
        before.entries,
    )
    assert after.state == before.state
    assert {n: after.items[n] for n, _ in journaled.talk.unread_turns} == dict(journaled.talk.unread_turns)


def test_frames_in_flight_are_recovered_after_many_drops() -> None:
    journaled = JournaledConversation()
    talk = journaled.talk
    for seq in range(2):
        talk.receive(frame(seq, seq * 1000), 0.0)
        talk.next_command(seq)
    for seq in range(2, 300):
        talk.receive(frame(seq, seq * 1000), 0.0)
        journaled.commit()
    found = recover(read_records(compacted(journaled)))
    assert [command.index for command in found.pending_commands if isinstance(command, ScoreFrame)][:2] == [0, 1]
    restored_talk = restored(found)
    Echo(restored_talk).run()
    ended = [e["seq"] for e in events(restored_talk) if e["type"] in ("input_frame.scored", "input_frame.dropped")]
    assert sorted(ended) == list(range(300))


def test_frame_without_record_is_dropped() -> None:
    journaled = JournaledConversation()
    journaled.talk.receive(frame(0, 0), 0.0)
    journaled.commit()
    found = recover(record for record in read_records(bytes(journaled.journal)) if record.kind != "F")
    dropped = [e for e in events(restored(found)) if e["type"] == "input_frame.dropped"]
    assert [(e["seq"], e["reason"]) for e in dropped] == [(0, "late")]


def test_window_is_complete_after_an_overload() -> None:
    journaled = JournaledConversation()
    talk, echo = journaled.talk, Echo(journaled.talk)
    for seq in range(WINDOW):
        talk.receive(frame(seq, seq * 1000), 0.0)
        echo.run()
    for seq in range(WINDOW, 200):
        talk.receive(frame(seq, seq * 1000), 0.0)
        journaled.commit()
    found = recover(read_records(compacted(journaled)))
    assert [item.index for item in found.history if isinstance(item, ScoreFrame)] == list(range(WINDOW))


def test_text_before_the_oldest_frame_of_the_window_is_recovered() -> None:
    """As in the engine, it leaves the context together with the first frame after it."""
    journaled = JournaledConversation()
    echo = Echo(journaled.talk)
    for place, step in enumerate(["pass", "frame", "run", "pass", "speak", "run", *["frame", "run"] * WINDOW]):
        play(journaled, step, place, echo)
    history = recover(read_records(bytes(journaled.journal))).history
    assert [type(item) for item in history] == [AppendTurn, RecordedReply, *[ScoreFrame] * WINDOW]
    assert isinstance(history[0], AppendTurn)
    assert history[0].text == "c3"


def test_turns_with_the_same_id_are_distinct() -> None:
    journaled = JournaledConversation()
    for text in ("first", "second"):
        journaled.talk.receive(query(text, id="mine"), 0.0)
        journaled.commit()
        Echo(journaled.talk).run() if text == "first" else None
    journaled.commit()
    found = recover(read_records(bytes(journaled.journal)))
    assert [item.text for item in found.history if isinstance(item, AppendTurn)] == ["first"]
    assert [command.text for command in found.pending_commands if isinstance(command, AppendTurn)] == ["second"]


def test_open_source_is_recovered_without_credentials() -> None:
    journaled = JournaledConversation()
    journaled.talk.receive(message("input_source.open", url="rtsp://user:secret@camera/x"), 0.0)
    journaled.commit()
    assert recover(read_records(bytes(journaled.journal))).source == "rtsp://camera/x"
    assert b"secret" not in journaled.journal


@pytest.mark.parametrize("requested", [False, True])
def test_pending_reply_is_repeated_once_after_several_restarts(requested: bool) -> None:
    journaled = JournaledConversation()
    journaled.talk.receive(frame(0, 0), 0.0)
    assert isinstance(journaled.talk.next_command(), ScoreFrame)
    journaled.talk.on_output(Scores(0, 0.0, 0.9, 0.9, True), 0.0)
    if requested:
        journaled.talk.receive(message("response.create", response={"metadata": {"mine": "1"}}), 0.0)
    journaled.talk.receive(message("input_frame.end"), 0.0)
    journaled.commit()
    journal = bytes(journaled.journal)
    for _ in range(3):
        found = recover(read_records(journal))
        assert [type(command) for command in found.pending_commands] == [SpeakNow, End]
        restored_talk, writer = restored(found), JournalWriter(OPENED)
        found.write_to(writer, restored_talk.log.entries)
        writer.state_changed(restored_talk.state.to_json())
        journal = MAGIC + writer.take_batch()
    Echo(restored_talk, watched=[0]).run()
    created = [e["response"] for e in events(restored_talk) if e["type"] == "response.created"]
    assert [response["metadata"] for response in created] == [{"mine": "1"} if requested else None]


def test_closed_session_emits_nothing_after_recovery() -> None:
    journaled = JournaledConversation()
    talk = journaled.talk
    talk.receive(frame(0, 0), 0.0)
    talk.on_output(ReplyStarted(0, 0, 0.0), 0.0)
    talk.close("idle", 0.0)
    journaled.commit()
    emitted = events(restored(recover(read_records(bytes(journaled.journal)))))
    assert emitted == events(talk)
    assert emitted[-1]["type"] == "session.closed"
    assert next(e for e in emitted if e["type"] == "response.done")["response"]["status"] == "cancelled"


def test_kept_replies_are_in_the_history() -> None:
    journaled = JournaledConversation()
    echo = Echo(journaled.talk)
    for place, step in enumerate(["frame", "run", "speak", "run"]):
        play(journaled, step, place, echo)
    found = recover(read_records(bytes(journaled.journal)))
    assert isinstance(found.history[-1], RecordedReply)
    assert not any(isinstance(command, SpeakNow | CancelReply | End) for command in found.pending_commands)


@pytest.mark.parametrize("data", [b"", b"nonsense", MAGIC[:5], MAGIC, MAGIC + b"\xff" * 40])
def test_invalid_journals_recover_no_session(data: bytes) -> None:
    found: Any = recover(read_records(data))
    assert found.opened is None
    assert found.state is None
    assert complete_length(data) in (0, len(MAGIC))


def test_conversation_without_journal_works() -> None:
    talk = conversation()
    talk.receive(frame(0, 0), 0.0)
    Echo(talk).run()
    assert talk.state.frames == 1
