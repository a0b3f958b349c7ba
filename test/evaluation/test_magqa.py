"""MAGQA: the in-span score in both profiles and reported problems."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from judges import ScriptedJudge, gold_entry, prediction_line
from magqa_cases import GOLD, GRADES, PREDICTIONS, Q1, Q2, evaluate, files

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import magqa
from mmduet.evaluation.judges.judge import JudgedPair


def test_profile_fixed_counts_every_question(tmp_path: Path) -> None:
    judge = ScriptedJudge(GRADES)
    report = evaluate(tmp_path, judge)
    assert report.metrics == pytest.approx({"in_span": (Q1 + Q2 + 1) / 3, "turns": 6 / 3, "distinct_turns": 5 / 3})
    assert report.items == [
        {"id": "q1", "in_span": Q1, "turns": 4, "distinct_turns": 3},
        {"id": "q2", "in_span": Q2, "turns": 2, "distinct_turns": 2},
        {"id": "q3", "in_span": 1.0, "turns": 0, "distinct_turns": 0},
    ]
    assert report.problems == []
    assert sorted(judge.prompts) == sorted(GRADES)  # each pair within a span once
    assert "scripted with the prompt of prompt.txt" in report.notes[0]
    assert report.notes[1] == "1 of 3 questions have no replies; each counts 1."


def test_profile_paper_pads_to_two_thousand_questions(tmp_path: Path) -> None:
    report = evaluate(tmp_path, profile="paper")
    # the question without replies is left out, then 1998 ones (turns: zeros) are added
    assert report.metrics == pytest.approx(
        {"in_span": (Q1 + Q2 + 1998) / 2000, "turns": 6 / 2000, "distinct_turns": 5 / 2000}
    )
    assert [item["id"] for item in report.items] == ["q1", "q2"]


@pytest.mark.parametrize(
    ("profile", "options", "score", "mean_turns"),
    [
        ("paper", {"pad_with_one": False}, (Q1 + Q2) / 2, 6 / 2),
        ("paper", {"num_examples": 4}, (Q1 + Q2 + 1 + 1) / 4, 6 / 4),
        ("paper", {"num_examples": 1}, Q1, 4),  # only the first line with a turn is read
        ("paper", {"num_examples": 2, "pad_with_one": False}, (Q1 + Q2) / 2, 6 / 2),
        ("fixed", {"num_examples": 4}, (Q1 + Q2 + 1 + 1) / 4, 6 / 4),
        ("fixed", {"pad_with_one": False}, (Q1 + Q2 + 1) / 3, 6 / 3),
    ],
)
def test_padding_by_hand(tmp_path: Path, profile: Any, options: Any, score: float, mean_turns: float) -> None:
    report = evaluate(tmp_path, profile=profile, **options)
    assert report.metrics["in_span"] == pytest.approx(score)
    assert report.metrics["turns"] == pytest.approx(mean_turns)


def test_num_examples_below_the_question_count_raises(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError,
        match="num_examples must be at least the number of questions, 3, got 2; leave it out, or use profile paper",
    ):
        evaluate(tmp_path, num_examples=2)
    with pytest.raises(OptionError, match="num_examples must be at least 1, got 0"):
        evaluate(tmp_path, num_examples=0, profile="paper")


@pytest.mark.parametrize(
    ("profile", "pad", "score", "counted"),
    [("fixed", True, (Q1 + 1 + 1) / 3, "1"), ("fixed", False, Q1, "nothing"), ("paper", False, Q1, None)],
)
def test_missing_predictions_are_reported(
    tmp_path: Path, profile: Any, pad: bool, score: float, counted: str | None
) -> None:
    report = evaluate(tmp_path, predictions=PREDICTIONS[:1], profile=profile, pad_with_one=pad)
    assert report.metrics["in_span"] == pytest.approx(score)
    assert [(p.id, p.counted_as) for p in report.problems] == ([("q2", counted), ("q3", counted)] if counted else [])
    assert (profile == "paper") == any("2 of 3 questions are left out" in note for note in report.notes)


def test_turns_without_a_time_in_both_profiles(tmp_path: Path) -> None:
    predictions = [prediction_line("q1", (-1, "x")), PREDICTIONS[1], PREDICTIONS[2]]
    predictions[0]["model_response_list"] = predictions[0]["model_response_list"][
        1:
    ]  # the form of baselines, without a user turn
    grades = {**GRADES, "what?|b|x": "1"}
    assert evaluate(tmp_path, ScriptedJudge(grades), predictions).items[0]["in_span"] == (5 + 1) / 2
    assert (
        "1 turns have no time (-1); they count as in every span."
        in evaluate(tmp_path, ScriptedJudge(grades), predictions).notes
    )
    assert evaluate(tmp_path, ScriptedJudge(grades), predictions, baseline_all_match=False).items[0]["in_span"] == 1.0
    paper = evaluate(
        tmp_path, ScriptedJudge(grades), predictions, profile="paper", baseline_all_match=False, pad_with_one=False
    )
    assert [item["id"] for item in paper.items] == ["q2"]  # MMDuet's evaluator skips such a line


@pytest.mark.parametrize(
    ("profile", "q2", "problems"),
    # "a|w" is graded "I'd say 3.": the last character is not a digit, profile fixed reads the 3. "b|z" is graded "none".
    [("fixed", ((5 + 3) / 2 + 1) / 2, 1), ("paper", ((5 + 1) / 2 + 1) / 2, 2)],
)
def test_replies_without_a_grade_count_1(tmp_path: Path, profile: Any, q2: float, problems: int) -> None:
    judge = ScriptedJudge({**GRADES, "what?|a|w": "I'd say 3.", "what?|b|z": "none"})
    report = evaluate(tmp_path, judge, profile=profile)
    assert report.items[0]["in_span"] == ((5 + 5) / 2 + 1) / 2
    assert report.items[1]["in_span"] == q2
    assert len(report.problems) == problems
    assert "gold answer 1, assistant turn 3: the judge's reply 'none' is not a grade" in report.problems[0].message
    with pytest.raises(AnnotationError, match=r"problems \(fix them, or leave out --strict\):"):
        evaluate(tmp_path, judge, profile=profile, strict=True)
    assert not evaluate(tmp_path, judge, grade_parser="last_number", profile=profile).problems[1:]


def test_missing_or_conflicting_sources_of_grades_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError,
        match=r"5 answers need a judge; give --judge URL \(an OpenAI-compatible endpoint\), --judge exact \(comparison",
    ):
        magqa.evaluate(*files(tmp_path))
    with pytest.raises(OptionError, match="a judge and a file of judgements cannot be used together; give one of them"):
        magqa.evaluate(*files(tmp_path), judge=ScriptedJudge(GRADES), judgements=tmp_path / "predictions.jsonl")
    with pytest.raises(
        OptionError, match="grade_parser must be one of only_number, first_number, last_number, first_character,"
    ):
        evaluate(tmp_path, grade_parser="loud")
    silent = magqa.evaluate(
        *files(tmp_path, [prediction_line("q1", (5.0, "y")), prediction_line("q2"), prediction_line("q3")])
    )
    assert silent.metrics["in_span"] == 1.0  # there was nothing to grade


def test_strict_raises_for_problems_before_the_judge_is_queried(tmp_path: Path) -> None:
    predictions = [
        prediction_line("q1", (math.nan, "x"), (1.0, "x")),
        prediction_line("zz", (1.0, "x")),
        *PREDICTIONS[1:],
    ]
    gold = [*GOLD[:2], gold_entry("q3")]
    report = evaluate(tmp_path, predictions=predictions, gold=gold)
    assert {(p.id, p.counted_as) for p in report.problems} == {
        ("q1", "a turn outside every span"), ("zz", "nothing: left out"), ("q3", "left out of in_span"),
    }  # fmt: skip
    assert report.metrics["in_span"] == pytest.approx(((5 + 1) / 2 + Q2) / 2)
    assert report.metrics["turns"] == pytest.approx((2 + 2 + 0) / 3)
    assert report.to_dict(per_item=True)["items"][2]["in_span"] is None
    judge = ScriptedJudge(GRADES)
    with pytest.raises(AnnotationError, match=r"3 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(tmp_path, judge, predictions, gold, strict=True)
    assert judge.prompts == []


def test_a_report_can_be_written_as_json(tmp_path: Path) -> None:
    assert json.loads(json.dumps(evaluate(tmp_path).to_dict(per_item=True)))["benchmark"] == "magqa"
    assert str(JudgedPair("q1", 0, 1)) == "question_id 'q1', gold answer 0, assistant turn 1"
