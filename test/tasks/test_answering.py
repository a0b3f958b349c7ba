"""Answers with times: what is said again within a few seconds is one answer that lasts; captions from replies."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mmduet.events import Reply
from mmduet.spans import CaptionedSpan
from mmduet.tasks import Answer, Captions, DenseCaptioning, QuestionAnswering, StreamResult
from mmduet.tasks.question_answering import MERGE_SECONDS, merge_repeats

SAID = [
    (1.0, "A dog."),
    (2.0, "a  dog"),
    (3.0, "A cat."),
    (6.5, "A dog."),
    (12.0, "A dog."),
    (13.0, " "),
    (13.5, "A cat."),
]


def replies(*said: tuple[float, str]) -> list[Reply]:
    return [Reply(k, k, time, text, 2, "stop") for k, (time, text) in enumerate(said)]


def test_repeats_are_one_answer_that_lasts_whatever_was_said_in_between() -> None:
    assert merge_repeats(replies(*SAID)) == [
        Answer(1.0, 6.5, "A dog."), Answer(3.0, 3.0, "A cat."), Answer(12.0, 12.0, "A dog."), Answer(13.5, 13.5, "A cat."),
    ]  # fmt: skip
    assert len(merge_repeats(replies(*SAID), max_gap_seconds=0.0)) == 6
    assert len(merge_repeats(replies((0.0, "A"), (5.0, "A"), (10.01, "A")), max_gap_seconds=5.0)) == 2
    assert len(merge_repeats(replies(*SAID), max_gap_seconds=99.0)) == 2


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["A", "a.", "B", " ", ""]))))
def test_answers_cover_all_that_was_said_and_alike_ones_stand_apart(said: list[tuple[float, str]]) -> None:
    found = merge_repeats(replies(*said))
    assert [a.start for a in found] == sorted(a.start for a in found)
    for time, text in said:
        key = text.strip().lower().rstrip(".")
        if key:
            assert any(a.text.lower().rstrip(".") == key and a.start <= time <= a.end for a in found)
    for letter in "ab":
        alike = [a for a in found if a.text.lower().startswith(letter)]
        assert all(b.start - a.end > MERGE_SECONDS for a, b in pairwise(alike))


def test_the_result_names_the_question() -> None:
    found = QuestionAnswering("What?", 0.5).result(StreamResult((), tuple(replies(*SAID)), 20.0))
    assert (found.question, found.time, len(found.answers)) == ("What?", 0.5, 4)


def test_captions_keep_the_first_and_the_papers_do_not() -> None:
    watched = StreamResult((), tuple(replies((3.0, "one"), (4.0, " "), (5.0, "two"))), 8.0)
    assert DenseCaptioning().result(watched) == Captions(
        (CaptionedSpan(0.0, 3.0, "one"), CaptionedSpan(3.0, 5.0, "two"))
    )
    assert DenseCaptioning(profile="paper").result(watched) == Captions((CaptionedSpan(3.0, 5.0, "two"),))
