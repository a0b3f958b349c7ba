"""Question answering merges repeated replies into answers with a duration; dense captioning makes captions of replies."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.events import Reply
from mmduet.spans import CaptionedSpan
from mmduet.tasks import Answer, Captions, DenseCaptioning, QuestionAnswering, StreamResult
from mmduet.tasks.question_answering import MERGE_SECONDS, merge_repeats

TIMED_TEXTS = [
    (1.0, "A dog."),
    (2.0, "a  dog"),
    (3.0, "A cat."),
    (6.5, "A dog."),
    (12.0, "A dog."),
    (13.0, " "),
    (13.5, "A cat."),
]


def make_replies(*timed_texts: tuple[float, str]) -> list[Reply]:
    return [Reply(k, k, time, text, 2, "stop") for k, (time, text) in enumerate(timed_texts)]


def test_repeats_within_the_gap_extend_one_answer() -> None:
    assert merge_repeats(make_replies(*TIMED_TEXTS)) == [
        Answer(1.0, 6.5, "A dog."), Answer(3.0, 3.0, "A cat."), Answer(12.0, 12.0, "A dog."), Answer(13.5, 13.5, "A cat."),
    ]  # fmt: skip
    assert len(merge_repeats(make_replies(*TIMED_TEXTS), max_gap_seconds=0.0)) == 6
    assert len(merge_repeats(make_replies((0.0, "A"), (5.0, "A"), (10.01, "A")), max_gap_seconds=5.0)) == 2
    assert len(merge_repeats(make_replies(*TIMED_TEXTS), max_gap_seconds=99.0)) == 2


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["A", "a.", "B", " ", ""]))))
def test_answers_cover_all_replies_and_equal_answers_are_far_apart(timed_texts: list[tuple[float, str]]) -> None:
    answers = merge_repeats(make_replies(*timed_texts))
    assert [a.start for a in answers] == sorted(a.start for a in answers)
    for time, text in timed_texts:
        key = text.strip().lower().rstrip(".")
        if key:
            assert any(a.text.lower().rstrip(".") == key and a.start <= time <= a.end for a in answers)
    for letter in "ab":
        equal = [a for a in answers if a.text.lower().startswith(letter)]
        assert all(b.start - a.end > MERGE_SECONDS for a, b in pairwise(equal))


def test_result_has_question_time_and_answers() -> None:
    result = QuestionAnswering("What?", 0.5).result(StreamResult((), tuple(make_replies(*TIMED_TEXTS)), 20.0))
    assert (result.question, result.time, len(result.answers)) == ("What?", 0.5, 4)


def test_only_the_paper_profile_drops_the_first_caption() -> None:
    stream = StreamResult((), tuple(make_replies((3.0, "one"), (4.0, " "), (5.0, "two"))), 8.0)
    assert DenseCaptioning().result(stream) == Captions(
        (CaptionedSpan(0.0, 3.0, "one"), CaptionedSpan(3.0, 5.0, "two"))
    )
    assert DenseCaptioning(profile="paper").result(stream) == Captions((CaptionedSpan(3.0, 5.0, "two"),))


@pytest.mark.parametrize("time", [-1.0, float("inf"), float("nan")])
def test_times_before_the_stream_or_not_finite_are_rejected(time: float) -> None:
    with pytest.raises(OptionError, match=f"time must be a number of seconds from 0 up, got {time}"):
        QuestionAnswering("Who?", time)
