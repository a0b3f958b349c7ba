"""Frames that have waited longer than ``max_frame_age`` are dropped, the oldest first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from wire_partner import PNG, Echo, conversation, events, frame, kinds, query, update

from mmduet.protocol.frames import EncodedImage, ImageFormat
from mmduet.protocol.session.commands import ScoreFrame
from mmduet.protocol.session.conversation import Conversation


def live_conversation(max_frame_age: float | None = 1.0) -> Conversation:
    talk = conversation()
    talk.receive(update({"max_frame_age": max_frame_age}), 0.0)
    assert events(talk)[-1]["session"]["duet"]["max_frame_age"] == max_frame_age
    return talk


def outcomes(talk: Conversation) -> list[tuple[int, str]]:
    """Return seq and outcome of every finished frame, in the order of the events."""
    return [
        (event["seq"], event.get("reason", "scored"))
        for event in events(talk)
        if event["type"] in ("input_frame.scored", "input_frame.dropped")
    ]


def test_the_oldest_frames_are_dropped_as_late() -> None:
    talk = live_conversation(1.0)
    for place in range(4):
        talk.receive(frame(place, place), 0.5 * place)
    talk.drop_outdated(1.75)
    assert outcomes(talk) == [(0, "late"), (1, "late")]
    Echo(talk).run(1.75)
    assert outcomes(talk) == [(0, "late"), (1, "late"), (2, "scored"), (3, "scored")]
    assert talk.queued_count == 4


def test_a_frame_that_would_be_late_when_scored_gives_way_to_a_newer_one() -> None:
    talk = live_conversation(1.0)
    for place in range(3):
        talk.receive(frame(place, place), 0.1 * place)
    talk.drop_outdated(0.5, latency=0.4)
    assert outcomes(talk) == []
    talk.drop_outdated(0.5, latency=10.0)
    assert outcomes(talk) == [(0, "late"), (1, "late")]  # the newest one may still be scored
    talk.drop_outdated(1.3, latency=10.0)
    assert outcomes(talk) == [(0, "late"), (1, "late"), (2, "late")]


def test_turns_between_dropped_frames_are_read() -> None:
    talk = live_conversation(1.0)
    talk.receive(frame(0, 0), 0.0)
    talk.receive(query("What?"), 0.0)
    talk.receive(frame(1, 1), 2.0)
    talk.drop_outdated(2.5)
    Echo(talk).run(2.5)
    assert outcomes(talk) == [(0, "late"), (1, "scored")]
    assert "conversation.item.done" in kinds(talk)


def test_without_a_limit_frames_of_any_age_are_scored() -> None:
    talk = live_conversation(None)
    talk.receive(frame(0, 0), 0.0)
    talk.drop_outdated(1e6)
    Echo(talk).run(1e6)
    assert outcomes(talk) == [(0, "scored")]


def test_frames_of_files_that_the_server_reads_are_not_dropped() -> None:
    talk = live_conversation(1.0)
    image = EncodedImage(ImageFormat.PNG, PNG)
    talk.push_source_frame(0, image, 0.0, fps=None, live=False)
    talk.push_source_frame(1, image, 0.0, fps=None, live=True)
    talk.drop_outdated(1e6)
    Echo(talk).run(1e6)
    assert outcomes(talk) == [(0, "scored"), (1, "late")]


def test_the_limit_is_part_of_the_saved_state() -> None:
    talk = live_conversation(2.5)
    restored = conversation()
    restored.restore(type(talk.state).from_json(talk.state.to_json().decode()), (), {}, 0.0)
    assert restored.settings.max_frame_age == 2.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("frame", "score", "drop")), st.floats(0, 0.8), st.floats(0, 2)), max_size=40),
    st.floats(0.1, 2),
)
def test_a_scored_frame_was_never_older_than_the_limit(steps: list[tuple[str, float, float]], limit: float) -> None:
    talk, now, sent, received = live_conversation(limit), 0.0, 0, {}
    engine = Echo(talk)
    for kind, seconds, latency in steps:
        now += seconds
        if kind == "frame":
            talk.receive(frame(sent, sent), now)
            received[sent], sent = now, sent + 1
        elif kind == "score":
            talk.drop_outdated(now)
            waiting = talk.waiting_frames
            if engine.step(now):
                assert now - received[engine.watched[-1]] <= limit
                assert talk.waiting_frames == waiting - 1
        else:
            before = talk.waiting_frames
            talk.drop_outdated(now, latency)
            if before and now - received[sent - 1] <= limit:
                assert talk.waiting_frames >= 1  # the newest frame waits for the engine
    seqs = [seq for seq, _ in outcomes(talk)]
    assert seqs == list(range(len(seqs)))


def test_the_age_of_frames_from_a_journal_is_not_limited() -> None:
    talk, restored = live_conversation(1.0), conversation()
    talk.receive(frame(0, 0), 0.0)
    restored.restore(talk.state, [ScoreFrame(0, 0.0, EncodedImage(ImageFormat.PNG, PNG))], {}, 0.0)
    restored.drop_outdated(3600.0)
    assert outcomes(restored) == []
    Echo(restored).run(3600.0)
    assert outcomes(restored) == [(0, "scored")]


def test_frames_that_arrive_while_the_age_is_not_limited_are_kept() -> None:
    talk = live_conversation(1.0)
    talk.limits_frame_age = False
    talk.receive(frame(0, 0), 0.0)
    talk.limits_frame_age = True
    talk.receive(frame(1, 1), 0.0)
    talk.receive(frame(2, 2), 9.0)
    talk.drop_outdated(9.0)
    Echo(talk).run(9.0)
    assert outcomes(talk) == [(0, "scored"), (1, "late"), (2, "scored")]
