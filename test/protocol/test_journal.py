"""What is written down of a session is enough to go on with it, wherever the writing broke off."""

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


class Written:
    """A conversation of which a journal is kept, batch by batch; ``ends`` are the lengths after each."""

    def __init__(self) -> None:
        self.scribe = JournalWriter(OPENED)
        self.talk = Conversation("s", SETTINGS, SessionLimits(max_waiting_frames=6), journal=self.scribe)
        self.scribe.write_session()
        self.journal = bytearray(MAGIC)
        self.states: dict[int, tuple[bytes, int]] = {}
        self.commit()

    def commit(self) -> None:
        self.scribe.state_changed(self.talk.state.to_json())
        self.journal += self.scribe.take_batch()
        self.states[len(self.journal)] = (self.talk.state.to_json(), self.talk.log.last_number)


def steps() -> st.SearchStrategy[list[str]]:
    return st.lists(
        st.sampled_from(["frame", "frame", "late", "query", "keep", "pass", "speak", "run", "one"]), max_size=40
    )


def play(written: Written, step: str, place: int, echo: Echo) -> None:
    talk = written.talk
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
    written.commit()


def restored(found: RecoveredSession) -> Conversation:
    assert found.state is not None
    log = EventLog(entries=[found.entries[n] for n in sorted(found.entries)])
    talk = Conversation("s", found.state.settings, SessionLimits(max_waiting_frames=6), log)
    talk.restore(found.state, found.pending_commands, found.items, 0.0)
    return talk


@given(steps(), st.floats(0, 1))
def test_wherever_it_breaks_off_every_frame_and_every_turn_comes_to_one_end(taken: list[str], where: float) -> None:
    written = Written()
    echo = Echo(written.talk)
    for place, step in enumerate(taken):
        play(written, step, place, echo)
    first = min(written.states)
    cut = first + round(where * (len(written.journal) - first))
    whole = max(end for end in written.states if end <= cut)
    torn = bytes(written.journal[:cut])
    assert complete_length(torn) == whole

    found = recover(read_records(torn))
    assert found.state is not None
    state, last = written.states[whole]
    assert found.state.to_json() == state
    assert max(found.entries, default=0) == last
    talk = restored(found)
    Echo(talk).run()
    talk.receive(message("input_frame.end"), 0.0)
    Echo(talk).run()
    told = events(talk)
    assert told[-1]["type"] == "session.closed"
    ended = [e["seq"] for e in told if e["type"] in ("input_frame.scored", "input_frame.dropped")]
    assert len(ended) == talk.frame_counts["received"]
    assert sorted(ended) == sorted(set(ended))
    read = [e["item"]["id"] for e in told if e["type"] == "conversation.item.done" and e["item"]["role"] != "assistant"]
    assert sorted(read) == sorted(set(read))
    put = [e["item"]["id"] for e in told if e["type"] == "conversation.item.added" and e["item"]["role"] != "assistant"]
    assert sorted(put) == sorted(read)


@given(steps())
def test_what_was_seen_is_what_the_window_holds(taken: list[str]) -> None:
    written = Written()
    echo = Echo(written.talk)
    for place, step in enumerate([*taken, "run"]):
        play(written, step, place, echo)
    found = recover(read_records(bytes(written.journal)))
    told = events(written.talk)
    watched = [e["seq"] for e in told if e["type"] == "input_frame.scored"]
    frames = [item for item in found.history if isinstance(item, ScoreFrame)]
    assert [frame.time * 1e6 for frame in frames] == pytest.approx(
        [e["pts"] - next(x["pts"] for x in told if "pts" in x) for e in told if e["type"] == "input_frame.scored"][
            -WINDOW:
        ]
    )
    assert len(frames) == min(len(watched), WINDOW)
    stay = [item.item_id for item in found.history if isinstance(item, AppendTurn) and item.is_pinned]
    asked = [e["item"] for e in told if e["type"] == "conversation.item.done" and e["item"]["role"] == "user"]
    assert [item["id"] for item in asked] == [item for item in stay if item in {i["id"] for i in asked}]


def test_a_reply_that_was_cut_is_ended_and_said_anew() -> None:
    written = Written()
    talk, echo = written.talk, Echo(written.talk)
    talk.receive(frame(0, 0), 0.0)
    echo.run()
    talk.receive(message("response.create", response={"metadata": {"a": "b"}}), 0.0)
    written.commit()
    assert isinstance(talk.next_command(), SpeakNow)
    talk.on_output(ReplyStarted(0, 0, 0.0, forced=True), 0.0)
    talk.on_output(ReplyDelta(0, "A red"), 0.0)
    written.commit()
    found = recover(read_records(bytes(written.journal)))
    again = restored(found)
    done = [e["response"] for e in events(again) if e["type"] == "response.done"]
    assert [(d["status"], d["status_details"]["reason"]) for d in done] == [("cancelled", "server_restarted")]
    assert done[0]["output"][0]["content"][0]["text"] == "A red"
    assert isinstance(again.next_command(), SpeakNow)
    assert again.next_command() is None


def rewritten(written: Written) -> bytes:
    """A journal of what is still needed, as it is rewritten."""
    found, scribe = recover(read_records(bytes(written.journal))), JournalWriter(OPENED)
    found.write_to(scribe, written.talk.log.entries)
    scribe.state_changed(written.talk.state.to_json())
    return MAGIC + scribe.take_batch()


@given(steps())
def test_a_journal_that_is_begun_anew_tells_the_same(taken: list[str]) -> None:
    written = Written()
    echo = Echo(written.talk)
    for place, step in enumerate(taken):
        play(written, step, place, echo)
    before, after = recover(read_records(bytes(written.journal))), recover(read_records(rewritten(written)))
    assert (after.history, after.pending_commands, after.entries) == (
        before.history,
        before.pending_commands,
        before.entries,
    )
    assert after.state == before.state
    assert {n: after.items[n] for n, _ in written.talk.unread_turns} == dict(written.talk.unread_turns)


def test_frames_with_the_engine_outlive_any_number_that_gave_way() -> None:
    written = Written()
    talk = written.talk
    for seq in range(2):
        talk.receive(frame(seq, seq * 1000), 0.0)
        talk.next_command(seq)
    for seq in range(2, 300):
        talk.receive(frame(seq, seq * 1000), 0.0)
        written.commit()
    found = recover(read_records(rewritten(written)))
    assert [command.index for command in found.pending_commands if isinstance(command, ScoreFrame)][:2] == [0, 1]
    again = restored(found)
    Echo(again).run()
    ended = [e["seq"] for e in events(again) if e["type"] in ("input_frame.scored", "input_frame.dropped")]
    assert sorted(ended) == list(range(300))


def test_a_frame_whose_record_is_lost_is_told_as_dropped() -> None:
    written = Written()
    written.talk.receive(frame(0, 0), 0.0)
    written.commit()
    found = recover(fact for fact in read_records(bytes(written.journal)) if fact.kind != "F")
    dropped = [e for e in events(restored(found)) if e["type"] == "input_frame.dropped"]
    assert [(e["seq"], e["reason"]) for e in dropped] == [(0, "late")]


def test_after_an_overload_the_window_is_whole() -> None:
    written = Written()
    talk, echo = written.talk, Echo(written.talk)
    for seq in range(WINDOW):
        talk.receive(frame(seq, seq * 1000), 0.0)
        echo.run()
    for seq in range(WINDOW, 200):
        talk.receive(frame(seq, seq * 1000), 0.0)
        written.commit()
    found = recover(read_records(rewritten(written)))
    assert [item.index for item in found.history if isinstance(item, ScoreFrame)] == list(range(WINDOW))


def test_turns_of_one_name_are_two_turns() -> None:
    written = Written()
    for text in ("first", "second"):
        written.talk.receive(query(text, id="mine"), 0.0)
        written.commit()
        Echo(written.talk).run() if text == "first" else None
    written.commit()
    found = recover(read_records(bytes(written.journal)))
    assert [item.text for item in found.history if isinstance(item, AppendTurn)] == ["first"]
    assert [command.text for command in found.pending_commands if isinstance(command, AppendTurn)] == ["second"]


def test_a_source_that_was_to_be_pulled_is_not_forgotten() -> None:
    written = Written()
    written.talk.receive(message("input_source.open", url="rtsp://user:secret@camera/x"), 0.0)
    written.commit()
    assert recover(read_records(bytes(written.journal))).source == "rtsp://camera/x"
    assert b"secret" not in written.journal


@pytest.mark.parametrize("asked", [False, True])
def test_however_often_it_dies_a_reply_is_owed_once(asked: bool) -> None:
    written = Written()
    written.talk.receive(frame(0, 0), 0.0)
    assert isinstance(written.talk.next_command(), ScoreFrame)
    written.talk.on_output(Scores(0, 0.0, 0.9, 0.9, True), 0.0)
    if asked:
        written.talk.receive(message("response.create", response={"metadata": {"mine": "1"}}), 0.0)
    written.talk.receive(message("input_frame.end"), 0.0)
    written.commit()
    journal = bytes(written.journal)
    for _ in range(3):
        found = recover(read_records(journal))
        assert [type(command) for command in found.pending_commands] == [SpeakNow, End]
        again, scribe = restored(found), JournalWriter(OPENED)
        found.write_to(scribe, again.log.entries)
        scribe.state_changed(again.state.to_json())
        journal = MAGIC + scribe.take_batch()
    Echo(again, watched=[0]).run()
    created = [e["response"] for e in events(again) if e["type"] == "response.created"]
    assert [response["metadata"] for response in created] == [{"mine": "1"} if asked else None]


def test_a_session_that_was_over_says_nothing_more() -> None:
    written = Written()
    talk = written.talk
    talk.receive(frame(0, 0), 0.0)
    talk.on_output(ReplyStarted(0, 0, 0.0), 0.0)
    talk.close("idle", 0.0)
    written.commit()
    told = events(restored(recover(read_records(bytes(written.journal)))))
    assert told == events(talk)
    assert told[-1]["type"] == "session.closed"
    assert next(e for e in told if e["type"] == "response.done")["response"]["status"] == "cancelled"


def test_replies_are_seen_again_where_they_are_kept() -> None:
    written = Written()
    echo = Echo(written.talk)
    for place, step in enumerate(["frame", "run", "speak", "run"]):
        play(written, step, place, echo)
    found = recover(read_records(bytes(written.journal)))
    assert isinstance(found.history[-1], RecordedReply)
    assert not any(isinstance(command, SpeakNow | CancelReply | End) for command in found.pending_commands)


@pytest.mark.parametrize("data", [b"", b"nonsense", MAGIC[:5], MAGIC, MAGIC + b"\xff" * 40])
def test_what_is_no_journal_tells_nothing(data: bytes) -> None:
    found: Any = recover(read_records(data))
    assert found.opened is None
    assert found.state is None
    assert complete_length(data) in (0, len(MAGIC))


def test_a_conversation_without_a_scribe_writes_nothing() -> None:
    talk = conversation()
    talk.receive(frame(0, 0), 0.0)
    Echo(talk).run()
    assert talk.state.frames == 1
