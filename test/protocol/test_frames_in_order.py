"""Every frame comes to exactly one end, told in the order in which frames came, whatever is sent and whenever it is watched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wire_partner import Echo, conversation, events, frame, message, query, update

from mmduet.protocol.session.frame_tracker import AcceptedFrame, FrameTracker


def ends(talk: Any) -> list[tuple[int, str]]:
    """Each frame's seq and how it ended, as the client saw it."""
    how = {"input_frame.scored": "scored", "input_frame.dropped": "dropped"}
    return [(e["seq"], e.get("reason", "scored")) for e in events(talk) if e["type"] in how]


def send(talk: Any, *places: tuple[int, int]) -> list[tuple[int, str]]:
    for seq, milliseconds in places:
        talk.receive(frame(seq, milliseconds * 1000), 0.0)
    Echo(talk).run()
    return ends(talk)


def test_gaps_in_seq_are_no_fault() -> None:
    assert send(conversation(), (4, 0), (9, 1), (1000, 2)) == [(4, "scored"), (9, "scored"), (1000, "scored")]


def test_a_seq_that_came_before_is_a_duplicate() -> None:
    assert send(conversation(), (4, 0), (4, 1), (3, 2), (5, 3)) == [
        (4, "scored"), (4, "duplicate"), (3, "duplicate"), (5, "scored"),
    ]  # fmt: skip


def test_time_that_stands_still_or_goes_back_costs_that_frame_alone() -> None:
    assert send(conversation(), (0, 10), (1, 10), (2, 5), (3, 20)) == [
        (0, "scored"), (1, "duplicate"), (2, "late"), (3, "scored"),
    ]  # fmt: skip


def test_frames_between_ticks_are_told_as_such_in_their_turn() -> None:
    found = send(conversation(fps=2.0), *((i, i * 100) for i in range(12)))
    assert [seq for seq, how in found if how == "scored"] == [0, 5, 10]
    assert {how for seq, how in found if seq not in (0, 5, 10)} == {"rate"}
    assert [seq for seq, _ in found] == list(range(12))


def test_the_newest_frames_are_kept() -> None:
    talk = conversation(max_waiting_frames=3)
    found = send(talk, *((i, i) for i in range(8)))
    assert found == [(i, "late") for i in range(5)] + [(i, "scored") for i in (5, 6, 7)]


def test_any_origin_of_time_will_do() -> None:
    talk = conversation()
    talk.receive(frame(0, 1_700_000_000_000_000), 0.0)
    talk.receive(frame(1, 1_700_000_000_250_000), 0.0)
    times = [talk.next_command().time for _ in range(2)]  # type: ignore[union-attr]
    assert times == [0.0, 0.25]


def test_a_second_end_is_a_fault_of_ours() -> None:
    books: FrameTracker[str] = FrameTracker()
    books.accept(AcceptedFrame(0, 0, 0, 0.0, 0.0))
    books.accept(AcceptedFrame(1, 1, 1, 0.0, 0.0))
    assert books.finish(1, "scored") == []
    with pytest.raises(ValueError, match="frame 1"):
        books.finish(1, "scored")
    assert [(f.seq, how) for f, how in books.finish(0, "late")] == [(0, "late"), (1, "scored")]
    with pytest.raises(ValueError, match="frame 0"):
        books.finish(0, "scored")


class AnyOrder(RuleBasedStateMachine):
    """A client that sends what it likes against an engine that works when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = conversation(fps=10.0, max_waiting_frames=3, max_waiting_turns=2, burst=10**9)
        self.engine = Echo(self.talk, speaks_at=frozenset(range(0, 10_000, 3)))
        self.sent: list[int] = []

    @rule(skip=st.integers(-2, 3), pts=st.integers(0, 4_000_000))
    def push(self, skip: int, pts: int) -> None:
        seq = max((self.sent[-1] if self.sent else -1) + skip, 0)
        if not self.talk.ended:
            self.sent.append(seq)
        self.talk.receive(frame(seq, pts), 0.0)

    @rule(step=st.integers(1, 400_000))
    def push_next(self, step: int) -> None:
        last = self.talk._last_frame
        self.push(1, (last.pts if last else 0) + step)

    @rule(
        text=st.sampled_from(
            [query("What?"), message("response.create"), update({"fps": 4}), "garbage", message("session.heartbeat")]
        )
    )
    def say(self, text: str) -> None:
        self.talk.receive(text, 0.0)

    @rule()
    def work(self) -> None:
        self.engine.step()

    @precondition(lambda self: self.sent)
    @rule()
    def end(self) -> None:
        self.talk.receive(message("input_frame.end"), 0.0)

    @invariant()
    def ends_are_in_order_and_single(self) -> None:
        told = [seq for seq, _ in ends(self.talk)]
        assert told == self.sent[: len(told)]
        good = [seq for seq, how in ends(self.talk) if how != "duplicate"]
        assert good == sorted(set(good))

    def teardown(self) -> None:
        self.talk.receive(message("input_frame.end"), 0.0)
        self.engine.run()
        assert self.engine.over
        assert [seq for seq, _ in ends(self.talk)] == self.sent
        assert self.talk.unfinished_frames == 0
        assert self.talk.frame_counts["received"] == len(self.sent)
        assert events(self.talk)[-1]["type"] == "session.closed"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
