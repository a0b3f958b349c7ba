"""Every frame gets exactly one outcome, reported in order of arrival, whatever clients send and however slow the engine is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wire_partner import PNG, Echo, conversation, events, frame, message, query, update

from mmduet.protocol.frames import EncodedImage, ImageFormat
from mmduet.protocol.session.frame_tracker import AcceptedFrame, FrameTracker


def outcomes(talk: Any) -> list[tuple[int, str]]:
    """Return each frame's seq and outcome, as reported to the client."""
    types = ("input_frame.scored", "input_frame.dropped")
    return [(e["seq"], e.get("reason", "scored")) for e in events(talk) if e["type"] in types]


def send(talk: Any, *places: tuple[int, int]) -> list[tuple[int, str]]:
    for seq, milliseconds in places:
        talk.receive(frame(seq, milliseconds * 1000), 0.0)
    Echo(talk).run()
    return outcomes(talk)


def test_gaps_in_seq_are_accepted() -> None:
    assert send(conversation(), (4, 0), (9, 1), (1000, 2)) == [(4, "scored"), (9, "scored"), (1000, "scored")]


def test_repeated_seq_is_a_duplicate() -> None:
    assert send(conversation(), (4, 0), (4, 1), (3, 2), (5, 3)) == [
        (4, "scored"), (4, "duplicate"), (3, "duplicate"), (5, "scored"),
    ]  # fmt: skip


def test_non_increasing_pts_drops_only_that_frame() -> None:
    assert send(conversation(), (0, 10), (1, 10), (2, 5), (3, 20)) == [
        (0, "scored"), (1, "duplicate"), (2, "late"), (3, "scored"),
    ]  # fmt: skip


def test_frames_above_the_rate_are_dropped_in_order() -> None:
    found = send(conversation(fps=2.0), *((i, i * 100) for i in range(12)))
    assert [seq for seq, outcome in found if outcome == "scored"] == [0, 5, 10]
    assert {outcome for seq, outcome in found if seq not in (0, 5, 10)} == {"rate"}
    assert [seq for seq, _ in found] == list(range(12))


def test_frames_during_a_pause_are_not_counted_by_the_limits() -> None:
    taken: list[int] = []
    talk = conversation(fps=2, take_frame=lambda: not taken.append(1))
    image = EncodedImage(ImageFormat.PNG, PNG)
    for number, paused in enumerate((False, True, True, False)):
        talk.push_source_frame(number * 500_000, image, float(number), fps=2, paused=paused, live=True)
    assert len(taken) == 2
    talk.close("ended", 4.0)
    reasons = [event["reason"] for event in events(talk) if event["type"] == "input_frame.dropped"]
    assert reasons == ["closed", "paused", "paused", "closed"]


def test_the_newest_frames_are_kept() -> None:
    talk = conversation(max_waiting_frames=3)
    found = send(talk, *((i, i) for i in range(8)))
    assert found == [(i, "late") for i in range(5)] + [(i, "scored") for i in (5, 6, 7)]


def test_pts_may_start_anywhere() -> None:
    talk = conversation()
    talk.receive(frame(0, 1_700_000_000_000_000), 0.0)
    talk.receive(frame(1, 1_700_000_000_250_000), 0.0)
    times = [talk.next_command().time for _ in range(2)]  # type: ignore[union-attr]
    assert times == [0.0, 0.25]


def test_second_outcome_of_a_frame_raises() -> None:
    tracker: FrameTracker[str] = FrameTracker()
    tracker.accept(AcceptedFrame(0, 0, 0, 0.0, 0.0))
    tracker.accept(AcceptedFrame(1, 1, 1, 0.0, 0.0))
    assert tracker.finish(1, "scored") == []
    with pytest.raises(ValueError, match="frame 1"):
        tracker.finish(1, "scored")
    assert [(f.seq, outcome) for f, outcome in tracker.finish(0, "late")] == [(0, "late"), (1, "scored")]
    with pytest.raises(ValueError, match="frame 0"):
        tracker.finish(0, "scored")


class AnyOrder(RuleBasedStateMachine):
    """A client that sends arbitrary input to an engine that works at arbitrary times."""

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
        last = self.talk.state.last
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
    def outcomes_are_in_order_and_unique(self) -> None:
        reported = [seq for seq, _ in outcomes(self.talk)]
        assert reported == self.sent[: len(reported)]
        unique = [seq for seq, outcome in outcomes(self.talk) if outcome != "duplicate"]
        assert unique == sorted(set(unique))

    def teardown(self) -> None:
        self.talk.receive(message("input_frame.end"), 0.0)
        self.engine.run()
        assert self.engine.over
        assert [seq for seq, _ in outcomes(self.talk)] == self.sent
        assert self.talk.unfinished_frames == 0
        assert self.talk.frame_counts["received"] == len(self.sent)
        assert events(self.talk)[-1]["type"] == "session.closed"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
