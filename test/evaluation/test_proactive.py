"""PAUC: by hand, in both profiles, and files that are not as they should be (what it shares with MAGQA is tested there)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import Scripted, asked, json_file, json_lines, predicted, prompt_file

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import proactive
from mmduet.evaluation.report import Report
from mmduet.metrics.pauc import OMEGAS, Point, in_window, pauc, repeats, without_late_losses

WINDOW = (10.0, 20.0)
TWO = [Point(12, 1), Point(16, 2)]


@pytest.mark.parametrize(
    ("points", "omega", "expected"),
    [
        # .5 for 2 s, 1 for 4 s, 2 for 4 s, of 2 for 10 s
        (TWO, 0.0, (0.5 * 2 + 1 * 4 + 2 * 4) / 20),
        # the points come half as late: .5 for 1 s, 1 for 2 s, 2 for 7 s
        (TWO, 0.5, (0.5 * 1 + 1 * 2 + 2 * 7) / 20),
        (TWO, 1.0, 2 * 10 / 20),
        ([Point(10, 2)], 0.0, 1.0),
        ([Point(20, 2)], 0.0, 0.25),
        ([Point(20, 2)], 0.5, (0.5 * 5 + 2 * 5) / 20),
        ([Point(15, 0)], 0.0, 0.5 * 5 / 20),
        ([], 0.0, 0.25),
        ([], 1.0, 0.25),
    ],
)
def test_the_area_by_hand(points: list[Point], omega: float, expected: float) -> None:
    assert pauc(points, WINDOW, omega) == pytest.approx(expected)


def test_a_window_without_length_is_worth_what_it_ends_with() -> None:
    assert pauc([Point(3, 1), Point(3, 2)], (3, 3), 0.0) == 1.0
    assert pauc([], (3, 3), 0.0) == 0.25


points_in_window = st.lists(st.builds(Point, st.floats(10, 20), st.integers(0, 2)), max_size=6)


@given(points_in_window, st.floats(10, 20))
def test_the_area_is_a_share_and_being_late_matters_less_with_omega(points: list[Point], end: float) -> None:
    kept = without_late_losses(points, end)
    areas = [pauc(kept, WINDOW, omega) for omega in OMEGAS]
    assert all(-1e-9 <= area <= 1 + 1e-9 for area in areas)
    assert areas[2] == pytest.approx((kept[-1].score if kept else 0.5) / 2)
    assert [p.time for p in kept] == sorted(p.time for p in kept)
    assert without_late_losses(kept, end) == kept


@given(st.floats(10, 20), st.floats(0, 10), st.sampled_from(OMEGAS))
def test_telling_it_all_earlier_is_never_worse(time: float, later: float, omega: float) -> None:
    late = min(20.0, time + later)
    assert pauc([Point(time, 2)], WINDOW, omega) >= pauc([Point(late, 2)], WINDOW, omega) - 1e-9


def test_losses_after_the_event_are_forgiven() -> None:
    points = [Point(12, 0), Point(13, 1), Point(16, 0), Point(17, 1), Point(18, 2)]
    assert without_late_losses(points, 15) == [points[0], points[1], points[3], points[4]]
    assert without_late_losses(points, 20) == points  # within the event a loss is a loss
    assert without_late_losses(points[2:], 15) == points[2:]  # nothing had been reached
    assert (
        pauc(without_late_losses([Point(12, 2), Point(12, 1)], 15), WINDOW, 1.0) == 0.5
    )  # of one time the last counts


def test_which_replies_count() -> None:
    texts = ["a", "b", "b", "a", "c", "d"]
    assert in_window([9.9, 10.0, 11.0, 15.0, 20.0, 20.1], texts, WINDOW) == [1, 3, 4]
    assert in_window([math.nan, -1.0], ["a", "b"], WINDOW) == []
    assert repeats(texts) == 2
    assert repeats([]) == 0


GOLD = [
    {
        **asked("v1"),
        "answer": [
            {"content": "g1", "related_timespan": [10, 15], "reply_timespan": [10, 20]},
            {"content": "g2", "related_timespan": [18, 24], "reply_timespan": [18, 25]},
        ],
    },
    {**asked("v2"), "answer": [{"content": "g3", "related_timespan": [0, 9], "reply_timespan": [0, 10]}]},
]
SAID = [
    predicted("v1", (5.0, "early"), (12.0, "a"), (14.0, "a"), (16.0, "b"), (18.0, "c")),
    predicted("v2", (30.0, "late")),
]
GRADES = {"what?|g1|a": "2", "what?|g1|a b": "3", "what?|g1|a b c": "1", "what?|g2|c": "3"}
# g1: 1 at 2 s, 2 at 6 s; the 0 at 8 s comes after the event and is forgiven. g2: 2 at once. g3: nothing in its window.
AREAS = {
    "PAUC@0": [(0.5 * 2 + 1 * 4 + 2 * 4) / 20, 1.0, 0.25],
    "PAUC@0.5": [(0.5 * 1 + 1 * 2 + 2 * 7) / 20, 1.0, 0.25],
    "PAUC@1": [1.0, 1.0, 0.25],
}


def evaluate(
    tmp_path: Path, judge: Scripted | None = None, said: Any = None, gold: Any = None, **options: Any
) -> Report:
    return proactive.evaluate(
        json_lines(tmp_path / "said.jsonl", SAID if said is None else said),
        json_file(tmp_path / "gold.json", GOLD if gold is None else gold),
        judge=judge or Scripted(GRADES),
        prompt=prompt_file(tmp_path),
        **options,
    )


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_two_videos_by_hand(tmp_path: Path, profile: Any) -> None:
    judge = Scripted(GRADES)
    report = evaluate(tmp_path, judge, profile=profile)
    assert report.metrics == pytest.approx(
        {**{name: 100 * sum(areas) / 3 for name, areas in AREAS.items()}, "duplicate_rate": 100 * 1 / 6}
    )
    assert [item["id"] for item in report.items] == ["v1#0", "v1#1", "v2#0"]
    assert [item["replies"] for item in report.items] == [3, 1, 0]
    for name, areas in AREAS.items():
        assert [item[name] for item in report.items] == pytest.approx([100 * area for area in areas])
    assert sorted(judge.asked) == sorted(GRADES)
    assert report.problems == []


def test_a_reply_that_is_no_grade_gives_no_point(tmp_path: Path) -> None:
    report = evaluate(tmp_path, Scripted({**GRADES, "what?|g1|a": "well", "what?|g2|c": "2 or 3"}))
    # nothing was reached within the event, so that the 0 at 8 s stays
    assert report.items[0]["PAUC@0"] == pytest.approx(100 * (0.5 * 6 + 2 * 2 + 0 * 2) / 20)
    assert report.items[1]["PAUC@0"] == 25
    assert [(p.id, p.counted) for p in report.problems] == [("v1", "no point"), ("v1", "no point")]
    lenient = evaluate(tmp_path, Scripted({**GRADES, "what?|g2|c": "2 or 3"}), reading="last_alone")
    assert lenient.items[1]["PAUC@0"] == 100
    paper = evaluate(tmp_path, Scripted({**GRADES, "what?|g2|c": "2 or 3"}), profile="paper")
    assert paper.items[1]["PAUC@1"] == 50
    with pytest.raises(AnnotationError, match="is no grade"):
        evaluate(tmp_path, Scripted({**GRADES, "what?|g1|a": "well"}), strict=True)


def test_replies_out_of_order(tmp_path: Path) -> None:
    said = [predicted("v1", (16.0, "b"), (12.0, "a")), SAID[1]]
    fixed, paper = (Scripted(lambda _: "1") for _ in range(2))
    evaluate(tmp_path, fixed, said)
    evaluate(tmp_path, paper, said, profile="paper")
    assert sorted(fixed.asked) == ["what?|g1|a", "what?|g1|a b"]
    assert sorted(paper.asked) == ["what?|g1|b", "what?|g1|b a"]


def test_missing_predictions_are_silence(tmp_path: Path) -> None:
    report = evaluate(tmp_path, said=[SAID[1], predicted("zz", (1.0, "x"))])
    assert report.metrics["PAUC@0.5"] == pytest.approx(25)
    assert [(p.id, p.counted) for p in report.problems] == [("zz", "nothing"), ("v1", "silence")]
    assert evaluate(tmp_path, said=[predicted("v1"), predicted("v2")]).metrics["duplicate_rate"] == 0
    with pytest.raises(AnnotationError, match="2 predictions cannot be used"):
        evaluate(tmp_path, said=[SAID[1], predicted("zz", (1.0, "x"))], strict=True)


@pytest.mark.parametrize(
    ("answer", "duration", "window"),
    [
        ({"time": [2, 5]}, None, (2, 6)),  # MMDuet's files: a second of grace
        ({"related_timespan": [2, 5]}, 5.5, (2, 5.5)),
        ({"related_timespan": [2, 5]}, 4.0, (2, 5)),
        ({"related_timespan": [2, 5], "reply_timespan": [1, 9]}, 5.5, (1, 9)),
        ({"reply_timespan": [1, 9]}, None, (1, 9)),
    ],
)
def test_the_window_of_a_gold_answer(tmp_path: Path, answer: Any, duration: float | None, window: Any) -> None:
    gold = [{**asked("v1"), "answer": [{"content": "g", **answer}], "duration": duration}]
    begin, end = window
    said = [predicted("v1", (begin - 0.01, "no"), (begin, "x"), (end, "y"), (end + 0.01, "no"))]
    judge = Scripted(lambda _: "3")
    evaluate(tmp_path, judge, said, gold)
    assert sorted(judge.asked) == ["what?|g|x", "what?|g|x y"]


def test_grades_from_a_file(tmp_path: Path) -> None:
    rows = [
        {"question_id": "v1", "gold": 0, "turn": 1, "score": 2},
        {"question_id": "v1", "gold": 0, "turn": 3, "score": 3},
        {"question_id": "v1", "gold": 0, "turn": 4, "score": 1},
        {"question_id": "v1", "gold": 1, "turn": 4, "reply": "3"},
    ]
    said, gold = json_lines(tmp_path / "s.jsonl", SAID), json_file(tmp_path / "g.json", GOLD)
    report = proactive.evaluate(said, gold, judgements=json_lines(tmp_path / "grades.jsonl", rows))
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(OptionError, match="4 answers are to be graded and there is no judge"):
        proactive.evaluate(said, gold)
    with pytest.raises(AnnotationError, match="give the annotations"):
        proactive.evaluate(said, None)


def test_without_gold_answers(tmp_path: Path) -> None:
    report = evaluate(tmp_path, gold=[*GOLD, asked("v3")], said=[*SAID, predicted("v3")])
    assert [(p.id, p.counted) for p in report.problems] == [("v3", "nothing")]
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(AnnotationError, match="holds no gold answers"):
        evaluate(tmp_path, gold=[asked("v1")], said=[predicted("v1")])


@pytest.mark.parametrize(
    ("said", "gold", "told"),
    [
        ([predicted("v1", (math.nan, "x"))], None, None),
        ([predicted("v1", (-1, "x"))], None, None),
        ([predicted("v1"), predicted("v1")], None, "is there twice"),
        (None, [{**asked("v1"), "answer": [{"content": "g", "reply_timespan": [9, 1]}]}], "ends before it begins"),
        (None, [{**asked("v1"), "answer": [{"content": "g", "reply_timespan": None}]}], "a span is None"),
        (None, [{**asked("v1"), "answer": [{"content": "", "time": [1, 9]}]}], "needs a text"),
    ],
)
def test_malformed_files(tmp_path: Path, said: Any, gold: Any, told: str | None) -> None:
    if told is None:
        assert {p.counted for p in evaluate(tmp_path, said=said).problems} == {"a turn outside every span", "silence"}
        return
    with pytest.raises(AnnotationError, match=told):
        evaluate(tmp_path, said=said, gold=gold)


def test_of_two_late_replies_at_one_moment_the_worse_one_takes_nothing_away() -> None:
    points = [Point(4, 1), Point(7, 2), Point(7, 0)]
    kept = without_late_losses(points, 5)
    assert kept == points[:2]
    assert pauc(kept, (0, 10), 0.0) == pytest.approx((4 * 0.5 + 3 * 1 + 3 * 2) / 20)
    assert pauc(kept, (0, 10), 1.0) == 1
    inside = [Point(4, 2), Point(4, 1)]  # of two at one moment that both count, the last one does
    assert pauc(without_late_losses(inside, 5), (0, 10), 0.0) == pytest.approx((4 * 0.5 + 6 * 1) / 20)
