"""Journals keep their format: today's bytes are those of earlier versions, and journals of earlier versions are recovered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from journal_scenario import write_journal

from mmduet.options import SpeakOptions
from mmduet.protocol.server_events import Item
from mmduet.protocol.session.commands import AppendTurn, End, ScoreFrame, SpeakNow
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.conversation_state import ConversationState
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.journal import SessionOpened, complete_length, read_records
from mmduet.protocol.session.limits import SessionLimits
from mmduet.protocol.session.recovery import RecordedReply, RecoveredSession, recover

JOURNAL = Path(__file__).parent / "data" / "session.journal"

ADDED_TO_EVENTS = ',"max_frame_age":null,"thumbnails":false'
"""Part of events that earlier versions did not send."""


@pytest.fixture(scope="module")
def old_journal() -> bytes:
    return JOURNAL.read_bytes()


def test_written_records_equal_an_earlier_versions(old_journal: bytes) -> None:
    written = list(read_records(b"".join(write_journal())))
    for number, record in enumerate(written):
        if record.kind == "E":
            entry = replace(record.value, text=record.value.text.replace(ADDED_TO_EVENTS, ""))
            written[number] = replace(record, value=entry)
    assert written == list(read_records(old_journal))


def test_saved_states_keep_their_bytes(old_journal: bytes) -> None:
    states = [record.text for record in read_records(old_journal) if record.kind == "S"]
    assert len(states) == 7
    for text in states:
        state = ConversationState.from_json(text)
        assert state.to_json() == text.encode()
        assert ConversationState.from_json(state.to_json().decode()) == state


def test_state_json_names_are_those_of_the_format(old_journal: bytes) -> None:
    *_, speaking, _ = (json.loads(record.text) for record in read_records(old_journal) if record.kind == "S")
    assert list(speaking) == [
        "settings", "narrator", "consumed", "started", "ended", "last", "origin", "items", "turns", "frames", "tick",
        "ends_with_source",
    ]  # fmt: skip
    assert speaking["settings"]["options"]["speak"] == {
        "policy": "sum", "value": 2.5, "heads": ["informative", "relevance"], "min_interval": 0.5, "repeat_window": 3.0,
        "at_end": True, "unasked": False,
    }  # fmt: skip
    assert speaking["narrator"]["books"]["ends"]["5"] == {
        "frame": 5, "time": 1.0, "informative": 0.25, "relevance": 0.75, "speak": False,
    }  # fmt: skip
    assert speaking["narrator"]["speaking"] == {
        "number": 1, "response": "resp_s_1", "item": "item_s_r1", "since": 4.0, "metadata": {"mine": "1"}, "text": "It",
        "first_delta": 4.5,
        "trigger": {
            "trigger_seq": 4, "trigger_pts": 2000000, "informative": 0.25, "relevance": 0.75, "forced": True, "timing": None,
        },
    }  # fmt: skip
    assert speaking["last"] == {"index": 6, "seq": 9, "pts": 4000000, "time": 3.0, "came": 5.0}


def recover_before_close(old_journal: bytes) -> RecoveredSession:
    """Recover the session as it was before its last batch, which closes it."""
    return recover(read_records(old_journal[: len(old_journal) - len(write_journal()[-1])]))


def test_an_earlier_versions_journal_is_recovered(old_journal: bytes) -> None:
    assert complete_length(old_journal) == len(old_journal)
    found = recover_before_close(old_journal)
    assert found.opened == SessionOpened("s", "token", "owner", "nano 1")
    assert found.source == "rtsp://camera/x"
    turns = [item.text for item in found.history if isinstance(item, AppendTurn)]
    assert turns == ["What is it? é", "a line"]
    assert [item.index for item in found.history if isinstance(item, ScoreFrame)] == [0, 1, 5]
    assert [item.text for item in found.history if isinstance(item, RecordedReply)] == ["A red ball."]
    assert [type(command) for command in found.pending_commands] == [
        SpeakNow, ScoreFrame, AppendTurn, AppendTurn, ScoreFrame, End,
    ]  # fmt: skip
    assert [item.id for item in found.items.values()] == ["mine", "item_s_1", "item_s_2", "item_s_3"]
    assert all(isinstance(item, Item) for item in found.items.values())


def test_an_earlier_versions_session_continues(old_journal: bytes) -> None:
    found = recover_before_close(old_journal)
    assert found.state is not None
    assert found.state.settings.options.speak == SpeakOptions(
        "sum", 2.5, ("informative", "relevance"), 0.5, 3.0, True, False
    )
    log = EventLog(entries=[found.entries[number] for number in sorted(found.entries)])
    talk = Conversation("s", found.state.settings, SessionLimits(), log)
    talk.restore(found.state, found.pending_commands, found.items, 0.0)
    assert not talk.speaking
    assert (talk.unfinished_frames, talk.frame_counts["received"]) == (5, 7)
    last = json.loads(talk.log.entries[-1].text)
    assert (last["type"], last["response"]["status_details"]["reason"]) == ("response.done", "server_restarted")


def test_settings_that_earlier_versions_did_not_have_are_written_only_if_they_are_set(old_journal: bytes) -> None:
    state = recover(read_records(old_journal)).state
    assert state is not None
    assert state.settings.thumbnails is False
    changed = replace(state, settings=replace(state.settings, thumbnails=True))
    assert json.loads(changed.to_json())["settings"]["thumbnails"] is True
    assert ConversationState.from_json(changed.to_json().decode()) == changed


def test_a_closed_session_stays_closed(old_journal: bytes) -> None:
    state = recover(read_records(old_journal)).state
    assert state is not None
    assert state.emitter.closed is not None
    assert state.emitter.closed.reason == "idle"
    assert state.emitter.closed.frames["scored"] == 3
