"""MAGQA: grades from files, every form of annotations, and errors of files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from judges import ScriptedJudge, gold_entry, prediction_line, write_json_lines, write_prompt
from magqa_cases import GRADES, PREDICTIONS, Q1, Q2, evaluate, files

from mmduet.annotations.scene_files import write_benchmark_files
from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks import magqa

ROWS = [
    {"question_id": "q1", "gold": 0, "turn": 0, "score": 5},
    {"question_id": "q1", "gold": 0, "turn": 1, "score": 5.0},
    {"question_id": "q1", "gold": 1, "turn": 3, "reply": "Score: 2"},
    {"question_id": "q2", "gold": 0, "turn": 0, "reply": "5"},
    {"question_id": "q2", "gold": 0, "turn": 1, "reply": "3"},
    {"question_id": "q3", "gold": 0, "turn": 0, "reply": "not requested"},
]


def test_grades_are_read_from_a_file(tmp_path: Path) -> None:
    judgements = write_json_lines(tmp_path / "grades.jsonl", ROWS)
    report = magqa.evaluate(*files(tmp_path), judgements=judgements)
    assert report.metrics == evaluate(tmp_path).metrics
    assert report.notes[0].startswith("Grades were read from grades.jsonl (replies parsed as only_number);")
    write_json_lines(judgements, ROWS[1:2] + ROWS[4:])
    with pytest.raises(
        AnnotationError,
        match=r"3 of 5 answers have no judgement; the first: .*grades\.jsonl has no reply for question_id 'q1', gold",
    ):
        magqa.evaluate(*files(tmp_path), judgements=judgements)


REFERENCE_ROWS = [
    {
        **PREDICTIONS[0],
        "evaluator_output": [[5.0, 5.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0]],
        "answer_time": [[0, 4], [6, 10]],
    },
    {**PREDICTIONS[1], "evaluator_output": [["5", "3"], ["1", "1"]], "answer_time": [[0, 10], [20, 30]]},
]


def test_mmduet_evaluator_output_serves_as_predictions_and_judgements(tmp_path: Path) -> None:
    judged = write_json_lines(tmp_path / "judged.jsonl", REFERENCE_ROWS)
    alone = magqa.evaluate(judged, None, profile="paper", pad_with_one=False)
    assert alone.metrics == pytest.approx({"in_span": (Q1 + Q2) / 2, "turns": 3, "distinct_turns": 2.5})
    silent = {**PREDICTIONS[2], "evaluator_output": [[]], "answer_time": [[5, 6]]}
    nothing = magqa.evaluate(write_json_lines(tmp_path / "silent.jsonl", [silent]), None)
    assert nothing.metrics == {"in_span": 1.0, "turns": 0.0, "distinct_turns": 0.0}
    predictions, gold = files(tmp_path)
    assert magqa.evaluate(predictions, gold, judgements=judged).metrics == evaluate(tmp_path).metrics
    assert magqa.evaluate(judged, gold).metrics == evaluate(tmp_path).metrics
    for broken, message in (
        (
            {"answer_time": None},
            r"judged\.jsonl, question_id 'q1': there are no gold answers \(answer_time, evaluator_output\); give the",
        ),
        (
            {"answer_time": [[4, 0]]},
            r"judged\.jsonl, question_id 'q1': answer_time 0 is \[4, 0\]: it ends before it starts; swap its ends",
        ),
    ):
        write_json_lines(judged, [{**REFERENCE_ROWS[0], **broken}])
        with pytest.raises(AnnotationError, match=message):
            magqa.evaluate(judged, None)
    write_json_lines(judged, [{**REFERENCE_ROWS[0], "evaluator_output": [[5.0]]}])
    with pytest.raises(
        AnnotationError,
        match=r"2 of 3 answers have no judgement; the first: .*judged\.jsonl has no reply for question_id 'q1', gold",
    ):
        magqa.evaluate(judged, None)
    write_json_lines(judged, [{**REFERENCE_ROWS[0], "evaluator_output": [[math.nan]]}])
    with pytest.raises(
        AnnotationError, match=r"judged\.jsonl, row 1: score is nan, expected the judge's text or a whole number"
    ):
        magqa.evaluate(judged, None)


def test_the_test_set_of_rendered_scenes_is_read(tmp_path: Path) -> None:
    answers = [{"content": "the red ball leaves", "time": 5.0, "timespan": [2.0, 5.0], "end": 5.0}]
    clip = {
        "video": "0001.mp4", "captions": [], "groundings": [], "absent": {}, "highlights": [],
        "questions": [{"question": "what leaves?", "time": 0.0, "answers": answers}],
    }  # fmt: skip
    write_benchmark_files(tmp_path, [clip], "Narrate.")
    predictions = write_json_lines(tmp_path / "predictions.jsonl", [prediction_line("0001-0", (4.0, "a ball"))])
    judge = ScriptedJudge({"what leaves?|the red ball leaves|a ball": "3"})
    report = magqa.evaluate(predictions, tmp_path / "magqa_test.json", judge=judge, prompt=write_prompt(tmp_path))
    assert report.metrics["in_span"] == 3.0
    with pytest.raises(
        AnnotationError,
        match=r"magqa\.json, entry 0: missing question_id in \{'video_uid': '0001\.mp4', 'conversation': \[\{'role':",
    ):
        magqa.evaluate(predictions, tmp_path / "magqa.json", judge=judge)


def test_gold_answers_are_read_from_the_conversation(tmp_path: Path) -> None:
    entry = gold_entry("q1")
    del entry["answer"]
    entry["conversation"].append({"role": "assistant", "content": "a", "time": 4.0, "timespan": [0.0, 4.0]})
    report = evaluate(tmp_path, predictions=[prediction_line("q1", (1.0, "x"))], gold=[entry])
    assert report.metrics["in_span"] == 5.0


def turn(**changed: Any) -> dict[str, Any]:
    row = prediction_line("q1", (1.0, "x"))
    row["model_response_list"][1].update(changed)
    return row


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], r"predictions\.jsonl is empty; check that it is the right file"),
        (
            [{"model_response_list": []}],
            r"predictions\.jsonl, entry 0: missing question_id in \{'model_response_list': \[\]\}",
        ),
        (
            [prediction_line(True)],
            r"predictions\.jsonl, entry 0: question_id is True, expected a text or a whole number",
        ),
        (
            [prediction_line(["q1"])],
            r"predictions\.jsonl, entry 0: question_id is \['q1'\], expected a text or a whole number",
        ),
        (
            [{"question_id": "q1"}],
            r"predictions\.jsonl, question_id 'q1': missing model_response_list in \{'question_id': 'q1'\}",
        ),
        (
            [{"question_id": "q1", "model_response_list": {}}],
            r"predictions\.jsonl, question_id 'q1': model_response_list is \{\}, expected a list",
        ),
        (
            [{"question_id": "q1", "model_response_list": ["x"]}],
            r"predictions\.jsonl, question_id 'q1': turn 0: missing role in 'x'",
        ),
        ([turn(time="1")], r"predictions\.jsonl, question_id 'q1': turn 1: time is '1', expected a number of seconds"),
        (
            [turn(time=None)],
            r"predictions\.jsonl, question_id 'q1': turn 1: time is None, expected a number of seconds",
        ),
        ([turn(content=5)], r"predictions\.jsonl, question_id 'q1': turn 1: content is 5, expected a text"),
        (
            [turn(role="robot")],
            r"predictions\.jsonl, question_id 'q1': turn 1: role is 'robot', expected one of user, assistant, system",
        ),
        (
            [prediction_line("q1"), prediction_line("q1")],
            r"predictions\.jsonl: id 'q1' is listed twice; keep one entry per id",
        ),
        (
            [prediction_line("zz")],
            r"predictions\.jsonl and the annotations have no id in common \(for example 'zz' and 'q1'\); give predictions",
        ),
        (
            [prediction_line(1)],
            r"predictions\.jsonl and the annotations have no id in common \(for example '1' and 'q1'\); give predictions",
        ),
    ],
)
def test_invalid_predictions_are_rejected(tmp_path: Path, predictions: list[Any], message: str) -> None:
    for profile in ("fixed", "paper"):
        with pytest.raises(AnnotationError, match=message) as caught:
            evaluate(tmp_path, predictions=predictions, profile=profile)
        assert "predictions.jsonl" in str(caught.value)


def test_an_empty_list_of_turns_counts_as_no_replies(tmp_path: Path) -> None:
    predictions = [{"question_id": "q1", "model_response_list": []}, *PREDICTIONS[1:]]
    assert evaluate(tmp_path, predictions=predictions).items[0]["in_span"] == 1.0


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([], r"gold\.json is empty; check that it is the right file"),
        ({}, r"gold\.json is empty; check that it is the right file"),
        ([7], r"gold\.json, entry 0: missing question_id in 7"),
        ([gold_entry("q1"), gold_entry("q1")], r"gold\.json: id 'q1' is listed twice; keep one entry per id"),
        ([{"question_id": "q1"}], r"gold\.json, question_id 'q1': missing conversation in \{'question_id': 'q1'\}"),
        (
            [{"question_id": "q1", "conversation": []}],
            r"gold\.json, question_id 'q1': the conversation has no user turn; add one with the question",
        ),
        (
            [gold_entry("q1", ([0, 4], " "))],
            r"gold\.json, question_id 'q1': gold answer 0: content is ' ', expected a text with words",
        ),
        (
            [gold_entry("q1", ([4, 0], "a"))],
            r"gold\.json, question_id 'q1': gold answer 0: the time span is \[4, 0\]: it ends before it starts; swap",
        ),
        (
            [gold_entry("q1", ([0, math.nan], "a"))],
            r"gold\.json, question_id 'q1': gold answer 0: the end of the time span is nan, expected a finite",
        ),
        (
            [gold_entry("q1", ([0], "a"))],
            r"gold\.json, question_id 'q1': gold answer 0: the time span is \[0\], expected \[start, end\] in seconds",
        ),
        (
            [gold_entry("q1", (5, "a"))],
            r"gold\.json, question_id 'q1': gold answer 0: the time span is 5, expected \[start, end\] in seconds",
        ),  # type: ignore[arg-type]
        (
            [{**gold_entry("q1"), "answer": [{"content": "a"}]}],
            r"gold\.json, question_id 'q1': gold answer 0: missing one of related_timespan, timespan, time,",
        ),
        ([{**gold_entry("q1"), "answer": "a"}], r"gold\.json, question_id 'q1': answer is 'a', expected a list"),
    ],
)
def test_invalid_annotations_are_rejected(tmp_path: Path, gold: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(tmp_path, gold=gold)
    assert "gold.json" in str(caught.value)


def test_predictions_without_gold_answers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError,
        match=r"question_id 'q1': there are no gold answers \(answer_time, evaluator_output\); give the annotations",
    ):
        magqa.evaluate(files(tmp_path)[0], None, judge=ScriptedJudge(GRADES))
