"""Proactive answering: PAUC in both profiles, reported problems, and errors. Parts shared with MAGQA are tested there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from judges import ScriptedJudge, gold_entry, prediction_line, write_json_file, write_json_lines, write_prompt

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import proactive
from mmduet.evaluation.report import Report

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
PREDICTIONS = [
    prediction_line("v1", (5.0, "early"), (12.0, "a"), (14.0, "a"), (16.0, "b"), (18.0, "c")),
    prediction_line("v2", (30.0, "late")),
]
GRADES = {"what?|g1|a": "2", "what?|g1|a b": "3", "what?|g1|a b c": "1", "what?|g2|c": "3"}
# g1: 1 at 2 s, 2 at 6 s; the 0 at 8 s comes after the event and is dropped. g2: 2 at once. g3: nothing in its window.
AREAS = {
    "PAUC@0": [(0.5 * 2 + 1 * 4 + 2 * 4) / 20, 1.0, 0.25],
    "PAUC@0.5": [(0.5 * 1 + 1 * 2 + 2 * 7) / 20, 1.0, 0.25],
    "PAUC@1": [1.0, 1.0, 0.25],
}


def evaluate(
    tmp_path: Path, judge: ScriptedJudge | None = None, predictions: Any = None, gold: Any = None, **options: Any
) -> Report:
    return proactive.evaluate(
        write_json_lines(tmp_path / "predictions.jsonl", PREDICTIONS if predictions is None else predictions),
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


def test_a_reply_without_a_grade_adds_no_point(tmp_path: Path) -> None:
    report = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g1|a": "well", "what?|g2|c": "2 or 3"}))
    # there was no score within the event, so the 0 at 8 s stays
    assert report.items[0]["PAUC@0"] == pytest.approx(100 * (0.5 * 6 + 2 * 2 + 0 * 2) / 20)
    assert report.items[1]["PAUC@0"] == 25
    assert [(p.id, p.counted_as) for p in report.problems] == [("v1", "no point"), ("v1", "no point")]
    lenient = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g2|c": "2 or 3"}), grade_parser="last_number")
    assert lenient.items[1]["PAUC@0"] == 100
    paper = evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g2|c": "2 or 3"}), profile="paper")
    assert paper.items[1]["PAUC@1"] == 50
    with pytest.raises(AnnotationError, match="the judge's reply 'well' is not a grade"):
        evaluate(tmp_path, ScriptedJudge({**GRADES, "what?|g1|a": "well"}), strict=True)


def test_replies_out_of_order_are_sorted_only_in_profile_fixed(tmp_path: Path) -> None:
    predictions = [prediction_line("v1", (16.0, "b"), (12.0, "a")), PREDICTIONS[1]]
    fixed, paper = (ScriptedJudge(lambda _: "1") for _ in range(2))
    evaluate(tmp_path, fixed, predictions)
    evaluate(tmp_path, paper, predictions, profile="paper")
    assert sorted(fixed.prompts) == ["what?|g1|a", "what?|g1|a b"]
    assert sorted(paper.prompts) == ["what?|g1|b", "what?|g1|b a"]


def test_missing_predictions_count_as_silence(tmp_path: Path) -> None:
    report = evaluate(tmp_path, predictions=[PREDICTIONS[1], prediction_line("zz", (1.0, "x"))])
    assert report.metrics["PAUC@0.5"] == pytest.approx(25)
    assert [(p.id, p.counted_as) for p in report.problems] == [("zz", "nothing: left out"), ("v1", "silence")]
    assert evaluate(tmp_path, predictions=[prediction_line("v1"), prediction_line("v2")]).metrics["duplicate_rate"] == 0
    with pytest.raises(AnnotationError, match=r"2 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(tmp_path, predictions=[PREDICTIONS[1], prediction_line("zz", (1.0, "x"))], strict=True)


@pytest.mark.parametrize(
    ("answer", "duration", "window"),
    [
        ({"time": [2, 5]}, None, (2, 6)),  # MMDuet's files: one second of grace
        ({"related_timespan": [2, 5]}, 5.5, (2, 5.5)),
        ({"related_timespan": [2, 5]}, 4.0, (2, 5)),
        ({"related_timespan": [2, 5], "reply_timespan": [1, 9]}, 5.5, (1, 9)),
        ({"reply_timespan": [1, 9]}, None, (1, 9)),
    ],
)
def test_the_window_of_a_gold_answer(tmp_path: Path, answer: Any, duration: float | None, window: Any) -> None:
    gold = [{**gold_entry("v1"), "answer": [{"content": "g", **answer}], "duration": duration}]
    start, end = window
    predictions = [prediction_line("v1", (start - 0.01, "no"), (start, "x"), (end, "y"), (end + 0.01, "no"))]
    judge = ScriptedJudge(lambda _: "3")
    evaluate(tmp_path, judge, predictions, gold)
    assert sorted(judge.prompts) == ["what?|g|x", "what?|g|x y"]


def test_grades_are_read_from_a_file(tmp_path: Path) -> None:
    rows = [
        {"question_id": "v1", "gold": 0, "turn": 1, "score": 2},
        {"question_id": "v1", "gold": 0, "turn": 3, "score": 3},
        {"question_id": "v1", "gold": 0, "turn": 4, "score": 1},
        {"question_id": "v1", "gold": 1, "turn": 4, "reply": "3"},
    ]
    predictions, gold = write_json_lines(tmp_path / "s.jsonl", PREDICTIONS), write_json_file(tmp_path / "g.json", GOLD)
    report = proactive.evaluate(predictions, gold, judgements=write_json_lines(tmp_path / "grades.jsonl", rows))
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(
        OptionError,
        match=r"4 answers need a judge; give --judge URL \(an OpenAI-compatible endpoint\), --judge exact \(comparison",
    ):
        proactive.evaluate(predictions, gold)
    with pytest.raises(AnnotationError, match=r"s\.jsonl has no gold answers; give the annotations"):
        proactive.evaluate(predictions, None)


def test_questions_without_gold_answers_are_reported(tmp_path: Path) -> None:
    report = evaluate(tmp_path, gold=[*GOLD, gold_entry("v3")], predictions=[*PREDICTIONS, prediction_line("v3")])
    assert [(p.id, p.counted_as) for p in report.problems] == [("v3", "nothing")]
    assert report.metrics == evaluate(tmp_path).metrics
    with pytest.raises(
        AnnotationError, match=r"gold\.json has no gold answers; give annotations with answers and their time spans"
    ):
        evaluate(tmp_path, gold=[gold_entry("v1")], predictions=[prediction_line("v1")])


@pytest.mark.parametrize(
    ("predictions", "gold", "message"),
    [
        ([prediction_line("v1", (math.nan, "x"))], None, None),
        ([prediction_line("v1", (-1, "x"))], None, None),
        (
            [prediction_line("v1"), prediction_line("v1")],
            None,
            r"predictions\.jsonl: id 'v1' is listed twice; keep one entry per id",
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
def test_malformed_files_are_reported_or_rejected(
    tmp_path: Path, predictions: Any, gold: Any, message: str | None
) -> None:
    if message is None:
        assert {p.counted_as for p in evaluate(tmp_path, predictions=predictions).problems} == {
            "a turn outside every span",
            "silence",
        }
        return
    with pytest.raises(AnnotationError, match=message):
        evaluate(tmp_path, predictions=predictions, gold=gold)
