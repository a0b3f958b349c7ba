"""PAUC: by hand, in both profiles, and files that are not as they should be (what it shares with MAGQA is tested there)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import ScriptedJudge, gold_entry, prediction_line, write_json_file, write_json_lines, write_prompt

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import proactive
from mmduet.evaluation.report import Report
from mmduet.metrics.pauc import OMEGAS, Point, count_repeats, drop_late_losses, pauc, replies_in_window

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
    kept = drop_late_losses(points, end)
    areas = [pauc(kept, WINDOW, omega) for omega in OMEGAS]
    assert all(-1e-9 <= area <= 1 + 1e-9 for area in areas)
    assert areas[2] == pytest.approx((kept[-1].score if kept else 0.5) / 2)
    assert [p.time for p in kept] == sorted(p.time for p in kept)
    assert drop_late_losses(kept, end) == kept


@given(st.floats(10, 20), st.floats(0, 10), st.sampled_from(OMEGAS))
def test_earlier_correct_reply_is_never_worse(time: float, later: float, omega: float) -> None:
    late = min(20.0, time + later)
    assert pauc([Point(time, 2)], WINDOW, omega) >= pauc([Point(late, 2)], WINDOW, omega) - 1e-9


def test_losses_after_the_event_are_forgiven() -> None:
    points = [Point(12, 0), Point(13, 1), Point(16, 0), Point(17, 1), Point(18, 2)]
    assert drop_late_losses(points, 15) == [points[0], points[1], points[3], points[4]]
    assert drop_late_losses(points, 20) == points  # within the event a loss is a loss
    assert drop_late_losses(points[2:], 15) == points[2:]  # nothing had been reached
    assert pauc(drop_late_losses([Point(12, 2), Point(12, 1)], 15), WINDOW, 1.0) == 0.5  # of one time the last counts


def test_which_replies_count() -> None:
    texts = ["a", "b", "b", "a", "c", "d"]
    assert replies_in_window([9.9, 10.0, 11.0, 15.0, 20.0, 20.1], texts, WINDOW) == [1, 3, 4]
    assert replies_in_window([math.nan, -1.0], ["a", "b"], WINDOW) == []
    assert count_repeats(texts) == 2
    assert count_repeats([]) == 0


GOLD = [
    {
        **gold_entry("v1"),
        "answer": [
            {"content": "g1", "related_timespan": [10, 15], "reply_timespan": [10, 20]},
            {"content": "g2", "related_timespan": [18, 24], "reply_timespan": [18, 25]},
        ],
    },
    {**gold_entry("v2"), "answer": [{"content": "g3", "related_timespan": [0, 9], "reply_timespan": [0, 10]}]},
]
SAID = [
    prediction_line("v1", (5.0, "early"), (12.0, "a"), (14.0, "a"), (16.0, "b"), (18.0, "c")),
    prediction_line("v2", (30.0, "late")),
]
GRADES = {"what?|g1|a": "2", "what?|g1|a b": "3", "what?|g1|a b c": "1", "what?|g2|c": "3"}
# g1: 1 at 2 s, 2 at 6 s; the 0 at 8 s comes after the event and is forgiven. g2: 2 at once. g3: nothing in its window.
AREAS = {
    "PAUC@0": [(0.5 * 2 + 1 * 4 + 2 * 4) / 20, 1.0, 0.25],
    "PAUC@0.5": [(0.5 * 1 + 1 * 2 + 2 * 7) / 20, 1.0, 0.25],
    "PAUC@1": [1.0, 1.0, 0.25],
}


def evaluate(
    tmp_path: Path, judge: ScriptedJudge | None = None, said: Any = None, gold: Any = None, **options: Any
) -> Report:
    return proactive.evaluate(
        write_json_lines(tmp_path / "said.jsonl", SAID if said is None else said),
        write_json_file(tmp_path / "gold.json", GOLD if gold is None else gold),
        judge=judge or ScriptedJudge(GRADES),
        prompt=write_prompt(tmp_path),
        **options,
    )


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_two_videos_by_hand(tmp_path: Path, profile: Any) -> None:
    judge = ScriptedJudge(GRADES)
    report = evaluate(tmp_path, judge, profile=profile)
    assert report.metrics == pytest.approx(
        {**{name: 100 * sum(areas) / 3 for name, areas in AREAS.items()}, "duplicate_rate": 100 * 1 / 6}
    )
    assert [item["id"] for item in report.items] == ["v1#0", "v1#1", "v2#0"]
    assert [item["replies"] for item in report.items] == [3, 1, 0]
    for name, areas in AREAS.items():
        assert [item[name] for item in report.items] == pytest.approx([100 * area for area in areas])
    assert sorted(judge.prompts) == sorted(GRADES)
    assert report.problems == []


def test_a_reply_that_is_no_grade_gives_no_point(tmp_path: Path) -> None:
    report = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g1|a": "well", "what?|g2|c": "2 or 3"}))
    # nothing was reached within the event, so that the 0 at 8 s stays
    assert report.items[0]["PAUC@0"] == pytest.approx(100 * (0.5 * 6 + 2 * 2 + 0 * 2) / 20)
    assert report.items[1]["PAUC@0"] == 25
    assert [(p.id, p.counted_as) for p in report.problems] == [("v1", "no point"), ("v1", "no point")]
    lenient = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g2|c": "2 or 3"}), grade_parser="last_number")
    assert lenient.items[1]["PAUC@0"] == 100
    paper = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g2|c": "2 or 3"}), profile="paper")
    assert paper.items[1]["PAUC@1"] == 50
    with pytest.raises(AnnotationError, match="is not a grade"):
        evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g1|a": "well"}), strict=True)


def test_replies_out_of_order(tmp_path: Path) -> None:
    said = [prediction_line("v1", (16.0, "b"), (12.0, "a")), SAID[1]]
    fixed, paper = (ScriptedJudge(lambda _: "1") for _ in range(2))
    evaluate(tmp_path, fixed, said)
    evaluate(tmp_path, paper, said, profile="paper")
    assert sorted(fixed.prompts) == ["what?|g1|a", "what?|g1|a b"]
    assert sorted(paper.prompts) == ["what?|g1|b", "what?|g1|b a"]


def test_missing_predictions_are_silence(tmp_path: Path) -> None:
    report = evaluate(tmp_path, said=[SAID[1], prediction_line("zz", (1.0, "x"))])
    assert report.metrics["PAUC@0.5"] == pytest.approx(25)
    assert [(p.id, p.counted_as) for p in report.problems] == [("zz", "nothing: left out"), ("v1", "silence")]
    assert evaluate(tmp_path, said=[prediction_line("v1"), prediction_line("v2")]).metrics["duplicate_rate"] == 0
    with pytest.raises(AnnotationError, match="2 predictions have problems"):
        evaluate(tmp_path, said=[SAID[1], prediction_line("zz", (1.0, "x"))], strict=True)


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
    gold = [{**gold_entry("v1"), "answer": [{"content": "g", **answer}], "duration": duration}]
    begin, end = window
    said = [prediction_line("v1", (begin - 0.01, "no"), (begin, "x"), (end, "y"), (end + 0.01, "no"))]
    judge = ScriptedJudge(lambda _: "3")
    evaluate(tmp_path, judge, said, gold)
    assert sorted(judge.prompts) == ["what?|g|x", "what?|g|x y"]


def test_grades_from_a_file(tmp_path: Path) -> None:
    rows = [
        {"question_id": "v1", "gold": 0, "turn": 1, "score": 2},
        {"question_id": "v1", "gold": 0, "turn": 3, "score": 3},
        {"question_id": "v1", "gold": 0, "turn": 4, "score": 1},
        {"question_id": "v1", "gold": 1, "turn": 4, "reply": "3"},
    ]
    said, gold = write_json_lines(tmp_path / "s.jsonl", SAID), write_json_file(tmp_path / "g.json", GOLD)
    report = proactive.evaluate(said, gold, judgements=write_json_lines(tmp_path / "grades.jsonl", rows))
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(
        OptionError,
        match=r"4 answers need a judge; give --judge URL \(an OpenAI-compatible endpoint\), --judge exact \(comparison",
    ):
        proactive.evaluate(said, gold)
    with pytest.raises(AnnotationError, match="give the annotations"):
        proactive.evaluate(said, None)


def test_without_gold_answers(tmp_path: Path) -> None:
    report = evaluate(tmp_path, gold=[*GOLD, gold_entry("v3")], said=[*SAID, prediction_line("v3")])
    assert [(p.id, p.counted_as) for p in report.problems] == [("v3", "nothing")]
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(
        AnnotationError, match=r"gold\.json has no gold answers; give annotations with answers and their time spans"
    ):
        evaluate(tmp_path, gold=[gold_entry("v1")], said=[prediction_line("v1")])


@pytest.mark.parametrize(
    ("said", "gold", "message"),
    [
        ([prediction_line("v1", (math.nan, "x"))], None, None),
        ([prediction_line("v1", (-1, "x"))], None, None),
        (
            [prediction_line("v1"), prediction_line("v1")],
            None,
            r"said\.jsonl: id 'v1' is listed twice; keep one entry per id",
        ),
        (
            None,
            [{**gold_entry("v1"), "answer": [{"content": "g", "reply_timespan": [9, 1]}]}],
            r"gold\.json, question_id 'v1': gold answer 0: the time span is \[9, 1\]: it ends before it starts; swap",
        ),
        (
            None,
            [{**gold_entry("v1"), "answer": [{"content": "g", "reply_timespan": None}]}],
            r"gold\.json, question_id 'v1': gold answer 0: the time span is None, expected \[start, end\] in seconds",
        ),
        (
            None,
            [{**gold_entry("v1"), "answer": [{"content": "", "time": [1, 9]}]}],
            r"gold\.json, question_id 'v1': gold answer 0: content is '', expected a text with words",
        ),
    ],
)
def test_malformed_files(tmp_path: Path, said: Any, gold: Any, message: str | None) -> None:
    if message is None:
        assert {p.counted_as for p in evaluate(tmp_path, said=said).problems} == {
            "a turn outside every span",
            "silence",
        }
        return
    with pytest.raises(AnnotationError, match=message):
        evaluate(tmp_path, said=said, gold=gold)


def test_of_two_late_replies_at_one_moment_the_worse_one_takes_nothing_away() -> None:
    points = [Point(4, 1), Point(7, 2), Point(7, 0)]
    kept = drop_late_losses(points, 5)
    assert kept == points[:2]
    assert pauc(kept, (0, 10), 0.0) == pytest.approx((4 * 0.5 + 3 * 1 + 3 * 2) / 20)
    assert pauc(kept, (0, 10), 1.0) == 1
    inside = [Point(4, 2), Point(4, 1)]  # of two at one moment that both count, the last one does
    assert pauc(drop_late_losses(inside, 5), (0, 10), 0.0) == pytest.approx((4 * 0.5 + 6 * 1) / 20)
