"""Targets compared with hand-made cases, and properties of all targets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmduet.duet import IGNORE, informative_targets, relevance_targets, reply_frame
from mmduet.spans import AnnotatedReply

TIMES = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_informative_is_1_from_the_middle_of_the_span_to_the_reply() -> None:
    answer = AnnotatedReply(2.5, "x", (1.0, 3.0))  # middle: 2.0
    assert informative_targets(TIMES, [answer]) == [0, 0, 0, 0, 1, 1, 0, 0, 0]


def test_informative_stays_1_until_a_reply_after_the_span() -> None:
    assert informative_targets(TIMES, [AnnotatedReply(4.0, "x", (1.0, 2.0))]) == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_reply_before_the_middle_of_its_span_has_no_positive_frame() -> None:
    assert informative_targets(TIMES, [AnnotatedReply(1.0, "x", (1.0, 3.0))]) == [0] * 9


def test_positive_frames_lie_in_the_stream_turn_of_the_reply() -> None:
    """The second span begins before the first reply. Its frames up to that reply belong to the first one."""
    answers = [AnnotatedReply(2.0, "a", (1.0, 2.0)), AnnotatedReply(3.0, "b", (0.0, 3.0))]  # middles 1.5 and 1.5
    assert informative_targets(TIMES, answers) == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    late = [
        AnnotatedReply(1.0, "a", (3.0, 4.0)),
        AnnotatedReply(3.0, "b", (0.0, 1.0)),
    ]  # middle of b 0.5, a never positive
    assert informative_targets(TIMES, late) == [0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_starts_bound_the_positive_frames_of_each_answer() -> None:
    answers = [AnnotatedReply(2.0, "a", (0.0, 1.0)), AnnotatedReply(4.0, "b", (0.0, 1.0))]
    assert informative_targets(TIMES, answers, starts=[3, 7]) == [0, 0, 0, 1, 1, 0, 0, 1, 1]


def test_answers_with_learn_false_are_ignored() -> None:
    answers = [AnnotatedReply(1.0, "a", (0.0, 1.0), learn=False), AnnotatedReply(3.0, "b", (2.0, 3.0))]
    assert informative_targets(TIMES, answers) == [0, IGNORE, IGNORE, 0, 0, 1, 1, 0, 0]


def test_without_answers_or_frames_nothing_is_positive() -> None:
    assert informative_targets(TIMES, []) == [0] * 9
    assert informative_targets([], [AnnotatedReply(1.0, "a", (0.0, 1.0))]) == []


def test_relevance_is_1_inside_any_span_including_its_ends() -> None:
    assert relevance_targets(TIMES, [(0.5, 1.0), (2.4, 2.6), (3.6, 3.9)]) == [0, 1, 1, 0, 0, 1, 0, 0, 0]
    assert relevance_targets(TIMES, []) == [0] * 9


def test_reply_frame_is_the_last_frame_before_the_reply() -> None:
    assert reply_frame(TIMES, AnnotatedReply(2.6, "x", (1.0, 3.0))) == 5
    assert reply_frame(TIMES, AnnotatedReply(2.0, "x", (1.0, 3.0))) == 4
    assert reply_frame(TIMES, AnnotatedReply(0.4, "x", (0.2, 0.4))) is None


SPANS = st.tuples(st.floats(0, 20), st.floats(0, 5)).map(lambda s: (s[0], s[0] + s[1]))
ANSWERS = st.lists(st.builds(AnnotatedReply, st.floats(0, 25), st.just("x"), SPANS, st.booleans()), max_size=5).map(
    lambda found: sorted(found, key=lambda a: a.time)
)


@given(st.lists(st.floats(0, 25), max_size=30).map(sorted), ANSWERS)
def test_positive_frames_belong_to_the_answer_of_their_stream_turn(
    times: list[float], answers: list[AnnotatedReply]
) -> None:
    targets = informative_targets(times, answers)
    for time, target in zip(times, targets, strict=True):
        ends = next((a for a in answers if a.time >= time), None)  # the answer that ends this frame's stream turn
        due = ends is not None and sum(ends.timespan) / 2 <= time
        assert target == 0 or due
        if due and len({a.time for a in answers}) == len(answers):
            assert target == (1 if ends.learn else IGNORE)


@given(st.lists(st.floats(0, 25), max_size=30).map(sorted), ANSWERS)
def test_reply_frame_is_positive_for_its_answer_alone(times: list[float], answers: list[AnnotatedReply]) -> None:
    for answer in answers:
        frame = reply_frame(times, answer)
        assert (frame is not None) == (
            1 in informative_targets(times, [AnnotatedReply(answer.time, "", answer.timespan)])
        )
        if frame is not None:
            assert sum(answer.timespan) / 2 <= times[frame] <= answer.time
            assert frame + 1 == len(times) or times[frame + 1] > answer.time
