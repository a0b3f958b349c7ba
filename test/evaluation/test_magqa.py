"""The in-span score: by hand, in both profiles, from every kind of file; and files that are not as they should be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import ScriptedJudge, gold_entry, prediction_line, write_json_file, write_json_lines, write_prompt

from mmduet.annotations.scene_files import write_benchmark_files
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import magqa
from mmduet.evaluation.judges.judge import JudgedPair
from mmduet.evaluation.report import Report
from mmduet.metrics import in_span
from mmduet.metrics.grade_parsers import GRADE_PARSERS

# One question with two gold answers. "x" is said at both ends of the first span, "y" in none, "z" in the second.
GOLD = [
    gold_entry("q1", ([0, 4], "a"), ([6, 10], "b")),
    gold_entry("q2", ([0, 10], "a"), ([20, 30], "c")),
    gold_entry("q3", ([5, 6], "d")),
]
SAID = [
    prediction_line("q1", (0.0, "x"), (4.0, "x"), (5.0, "y"), (8.0, "z")),
    prediction_line("q2", (3.0, "x"), (5.0, "w")),
    prediction_line("q3"),
]
GRADES = {"what?|a|x": "5", "what?|b|z": "2", "what?|a|w": "3"}
# q1: ((5 + 5)/2 + 2)/2 = 3.5; q2: ((5 + 3)/2 + 1)/2 = 2.5, nothing being said in 20..30; q3: silent
Q1, Q2 = 3.5, 2.5


def files(tmp_path: Path, said: list[Any] | None = None, gold: list[Any] | None = None) -> tuple[Path, Path]:
    return (
        write_json_lines(tmp_path / "said.jsonl", SAID if said is None else said),
        write_json_file(tmp_path / "gold.json", GOLD if gold is None else gold),
    )


def evaluate(
    tmp_path: Path, judge: ScriptedJudge | None = None, said: Any = None, gold: Any = None, **options: Any
) -> Report:
    judge = judge or ScriptedJudge(GRADES)
    return magqa.evaluate(*files(tmp_path, said, gold), judge=judge, prompt=write_prompt(tmp_path), **options)


def test_the_score_by_hand() -> None:
    assert list(in_span.pairs_in_span([0.0, 4.0, 5.0, 8.0], [(0, 4), (6, 10)])) == [(0, 0), (0, 1), (1, 3)]
    assert in_span.question_score(2, {(0, 0): 5, (0, 1): 5, (1, 3): 2}) == Q1
    assert in_span.question_score(2, {(0, 0): 5, (0, 1): 3}) == Q2
    assert in_span.question_score(1, {}) == 1.0
    assert math.isnan(in_span.question_score(0, {}))


def test_a_turn_without_a_time_is_in_every_span_or_in_none() -> None:
    assert list(in_span.pairs_in_span([-1.0, 1.0], [(0, 2), (5, 6)])) == [(0, 0), (0, 1), (1, 0)]
    assert list(in_span.pairs_in_span([-1.0, 1.0], [(0, 2), (-3, 6)], match_untimed=False)) == [(0, 1), (1, 1)]
    assert not in_span.is_in_span(math.nan, (0, 2))


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 5)), st.integers(1, 5)))
def test_the_score_lies_within_the_scale_and_more_is_never_less(scores: dict[tuple[int, int], float]) -> None:
    score = in_span.question_score(4, scores)
    assert 1 <= score <= 5
    best = {**scores, **{(answer, 9): 5.0 for answer in range(4)}}
    assert in_span.question_score(4, best) >= score


@pytest.mark.parametrize(
    ("reply", "expected"),
    # only_number, first_number, last_number, first_character, last_character, whole_number
    [
        ("4", (4, 4, 4, 4, 4, 4)),
        ("4\n", (4, 4, 4, 4, None, 4)),
        ("Score: 4", (4, 4, 4, None, 4, None)),
        ("**4**", (4, 4, 4, None, None, None)),
        ("4/5", (4, 4, 4, 4, 5, None)),
        ("4 out of 5.", (4, 4, 4, 4, None, None)),
        ("4.0", (4, 4, 4, 4, None, None)),
        ("5: a perfect match", (5, 5, 5, 5, None, None)),
        ("2 of 3 are reported: 4", (None, 2, 4, 2, 4, None)),
        ("3 or 4", (None, 3, 4, 3, 4, None)),
        ("3-4", (None, None, None, 3, 4, None)),
        ("4.5", (None, None, None, 4, 5, None)),
        ("12", (None, None, None, 1, 2, None)),
        ("0", (None, None, None, None, None, None)),
        ("six", (None, None, None, None, None, None)),
        ("", (None, None, None, None, None, None)),
    ],
)
def test_every_way_to_read_a_grade(reply: str, expected: tuple[int | None, ...]) -> None:
    assert tuple(read(reply, 5) for read in GRADE_PARSERS.values()) == expected


@given(st.text(max_size=40), st.sampled_from(sorted(GRADE_PARSERS)), st.integers(1, 5))
def test_a_grade_is_on_the_scale(reply: str, reading: str, highest: int) -> None:
    assert GRADE_PARSERS[reading](reply, highest) in (None, *range(1, highest + 1))


def test_fixed_counts_every_question(tmp_path: Path) -> None:
    judge = ScriptedJudge(GRADES)
    report = evaluate(tmp_path, judge)
    assert report.metrics == pytest.approx({"in_span": (Q1 + Q2 + 1) / 3, "turns": 6 / 3, "distinct_turns": 5 / 3})
    assert report.items == [
        {"id": "q1", "in_span": Q1, "turns": 4, "distinct_turns": 3},
        {"id": "q2", "in_span": Q2, "turns": 2, "distinct_turns": 2},
        {"id": "q3", "in_span": 1.0, "turns": 0, "distinct_turns": 0},
    ]
    assert report.problems == []
    assert sorted(judge.prompts) == sorted(GRADES)  # each pair once, and none that lies in no span
    assert "scripted with the prompt of prompt.txt" in report.notes[0]
    assert report.notes[1] == "1 of 3 questions have no replies; each counts 1."


def test_paper_pads_to_two_thousand(tmp_path: Path) -> None:
    report = evaluate(tmp_path, profile="paper")
    # the silent question is left out, then 1998 ones (turns: zeros) are added
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
def test_padding(tmp_path: Path, profile: Any, options: Any, score: float, mean_turns: float) -> None:
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
def test_missing_predictions(tmp_path: Path, profile: Any, pad: bool, score: float, counted: str | None) -> None:
    report = evaluate(tmp_path, said=SAID[:1], profile=profile, pad_with_one=pad)
    assert report.metrics["in_span"] == pytest.approx(score)
    assert [(p.id, p.counted_as) for p in report.problems] == ([("q2", counted), ("q3", counted)] if counted else [])
    assert (profile == "paper") == any("2 of 3 questions are left out" in note for note in report.notes)


def test_turns_without_time_in_both_profiles(tmp_path: Path) -> None:
    said = [prediction_line("q1", (-1, "x")), SAID[1], SAID[2]]
    said[0]["model_response_list"] = said[0]["model_response_list"][1:]  # as baselines write it: no user turn
    grades = {**GRADES, "what?|b|x": "1"}
    assert evaluate(tmp_path, ScriptedJudge(grades), said).items[0]["in_span"] == (5 + 1) / 2
    assert (
        "1 turns have no time (-1); they count as in every span."
        in evaluate(tmp_path, ScriptedJudge(grades), said).notes
    )
    assert evaluate(tmp_path, ScriptedJudge(grades), said, baseline_all_match=False).items[0]["in_span"] == 1.0
    paper = evaluate(
        tmp_path, ScriptedJudge(grades), said, profile="paper", baseline_all_match=False, pad_with_one=False
    )
    assert [item["id"] for item in paper.items] == ["q2"]  # the reference skips such a line


@pytest.mark.parametrize(
    ("profile", "q2", "problems"),
    # "a|w" is graded "I'd say 3.": the last character is not a digit, a reader finds the 3. "b|z" is graded "none".
    [("fixed", ((5 + 3) / 2 + 1) / 2, 1), ("paper", ((5 + 1) / 2 + 1) / 2, 2)],
)
def test_replies_that_are_no_grade_count_1(tmp_path: Path, profile: Any, q2: float, problems: int) -> None:
    judge = ScriptedJudge({**GRADES, "what?|a|w": "I'd say 3.", "what?|b|z": "none"})
    report = evaluate(tmp_path, judge, profile=profile)
    assert report.items[0]["in_span"] == ((5 + 5) / 2 + 1) / 2
    assert report.items[1]["in_span"] == q2
    assert len(report.problems) == problems
    assert "gold answer 1, assistant turn 3: the judge's reply 'none' is not a grade" in report.problems[0].message
    with pytest.raises(AnnotationError, match=r"problems \(fix them, or leave out --strict\):"):
        evaluate(tmp_path, judge, profile=profile, strict=True)
    assert not evaluate(tmp_path, judge, grade_parser="last_number", profile=profile).problems[1:]


def test_missing_judge_error_names_the_options(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError,
        match=r"5 answers need a judge; give --judge URL \(an OpenAI-compatible endpoint\), --judge exact \(comparison",
    ):
        magqa.evaluate(*files(tmp_path))
    with pytest.raises(OptionError, match="a judge and a file of judgements cannot be used together; give one of them"):
        magqa.evaluate(*files(tmp_path), judge=ScriptedJudge(GRADES), judgements=tmp_path / "said.jsonl")
    with pytest.raises(
        OptionError, match="grade_parser must be one of only_number, first_number, last_number, first_character,"
    ):
        evaluate(tmp_path, grade_parser="loud")
    silent = magqa.evaluate(
        *files(tmp_path, [prediction_line("q1", (5.0, "y")), prediction_line("q2"), prediction_line("q3")])
    )
    assert silent.metrics["in_span"] == 1.0  # nothing was to be graded


ROWS = [
    {"question_id": "q1", "gold": 0, "turn": 0, "score": 5},
    {"question_id": "q1", "gold": 0, "turn": 1, "score": 5.0},
    {"question_id": "q1", "gold": 1, "turn": 3, "reply": "Score: 2"},
    {"question_id": "q2", "gold": 0, "turn": 0, "reply": "5"},
    {"question_id": "q2", "gold": 0, "turn": 1, "reply": "3"},
    {"question_id": "q3", "gold": 0, "turn": 0, "reply": "none asked for it"},
]


def test_grades_from_a_file(tmp_path: Path) -> None:
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
    {**SAID[0], "evaluator_output": [[5.0, 5.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0]], "answer_time": [[0, 4], [6, 10]]},
    {**SAID[1], "evaluator_output": [["5", "3"], ["1", "1"]], "answer_time": [[0, 10], [20, 30]]},
]


def test_mmduet_evaluator_output_serves_as_predictions_and_judgements(tmp_path: Path) -> None:
    judged = write_json_lines(tmp_path / "judged.jsonl", REFERENCE_ROWS)
    alone = magqa.evaluate(judged, None, profile="paper", pad_with_one=False)
    assert alone.metrics == pytest.approx({"in_span": (Q1 + Q2) / 2, "turns": 3, "distinct_turns": 2.5})
    silent = {**SAID[2], "evaluator_output": [[]], "answer_time": [[5, 6]]}
    nothing = magqa.evaluate(write_json_lines(tmp_path / "silent.jsonl", [silent]), None)
    assert nothing.metrics == {"in_span": 1.0, "turns": 0.0, "distinct_turns": 0.0}
    said, gold = files(tmp_path)
    assert magqa.evaluate(said, gold, judgements=judged).metrics == evaluate(tmp_path).metrics
    assert magqa.evaluate(judged, gold).metrics == evaluate(tmp_path).metrics
    for broken, message in (
        (
            {"answer_time": None},
            r"judged\.jsonl, question_id 'q1': there are no gold answers \(answer_time, evaluator_output\); give the",
        ),
        ({"answer_time": [[4, 0]]}, "ends before"),
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
    with pytest.raises(AnnotationError, match="score is nan"):
        magqa.evaluate(judged, None)


def test_the_test_set_of_scenes_is_read(tmp_path: Path) -> None:
    answers = [{"content": "the red ball leaves", "time": 5.0, "timespan": [2.0, 5.0], "end": 5.0}]
    clip = {
        "video": "0001.mp4", "captions": [], "groundings": [], "absent": {}, "highlights": [],
        "questions": [{"question": "what leaves?", "time": 0.0, "answers": answers}],
    }  # fmt: skip
    write_benchmark_files(tmp_path, [clip], "Narrate.")
    said = write_json_lines(tmp_path / "said.jsonl", [prediction_line("0001-0", (4.0, "a ball"))])
    judge = ScriptedJudge({"what leaves?|the red ball leaves|a ball": "3"})
    report = magqa.evaluate(said, tmp_path / "magqa_test.json", judge=judge, prompt=write_prompt(tmp_path))
    assert report.metrics["in_span"] == 3.0
    with pytest.raises(
        AnnotationError,
        match=r"magqa\.json, entry 0: missing question_id in \{'video_uid': '0001\.mp4', 'conversation': \[\{'role':",
    ):
        magqa.evaluate(said, tmp_path / "magqa.json", judge=judge)


def test_gold_answers_may_stand_in_the_conversation(tmp_path: Path) -> None:
    entry = gold_entry("q1")
    del entry["answer"]
    entry["conversation"].append({"role": "assistant", "content": "a", "time": 4.0, "timespan": [0.0, 4.0]})
    report = evaluate(tmp_path, said=[prediction_line("q1", (1.0, "x"))], gold=[entry])
    assert report.metrics["in_span"] == 5.0


def test_strict_raises_for_problems_before_the_judge_is_queried(tmp_path: Path) -> None:
    said = [prediction_line("q1", (math.nan, "x"), (1.0, "x")), prediction_line("zz", (1.0, "x")), *SAID[1:]]
    gold = [*GOLD[:2], gold_entry("q3")]
    report = evaluate(tmp_path, said=said, gold=gold)
    assert {(p.id, p.counted_as) for p in report.problems} == {
        ("q1", "a turn outside every span"), ("zz", "nothing: left out"), ("q3", "left out of in_span"),
    }  # fmt: skip
    assert report.metrics["in_span"] == pytest.approx(((5 + 1) / 2 + Q2) / 2)
    assert report.metrics["turns"] == pytest.approx((2 + 2 + 0) / 3)
    assert report.to_dict(per_item=True)["items"][2]["in_span"] is None
    judge = ScriptedJudge(GRADES)
    with pytest.raises(AnnotationError, match="3 predictions have problems"):
        evaluate(tmp_path, judge, said, gold, strict=True)
    assert judge.prompts == []


def turn(**changed: Any) -> dict[str, Any]:
    row = prediction_line("q1", (1.0, "x"))
    row["model_response_list"][1].update(changed)
    return row


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], r"said\.jsonl is empty; check that it is the right file"),
        (
            [{"model_response_list": []}],
            r"said\.jsonl, entry 0: missing question_id in \{'model_response_list': \[\]\}",
        ),
        ([prediction_line(True)], "question_id is True"),
        ([prediction_line(["q1"])], r"question_id is \['q1'\]"),
        (
            [{"question_id": "q1"}],
            r"said\.jsonl, question_id 'q1': missing model_response_list in \{'question_id': 'q1'\}",
        ),
        ([{"question_id": "q1", "model_response_list": {}}], "model_response_list is {}"),
        (
            [{"question_id": "q1", "model_response_list": ["x"]}],
            r"said\.jsonl, question_id 'q1': turn 0: missing role in 'x'",
        ),
        ([turn(time="1")], r"said\.jsonl, question_id 'q1': turn 1: time is '1', expected a number of seconds"),
        ([turn(time=None)], r"said\.jsonl, question_id 'q1': turn 1: time is None, expected a number of seconds"),
        ([turn(content=5)], r"said\.jsonl, question_id 'q1': turn 1: content is 5, expected a text"),
        ([turn(role="robot")], "role is 'robot'"),
        (
            [prediction_line("q1"), prediction_line("q1")],
            r"said\.jsonl: id 'q1' is listed twice; keep one entry per id",
        ),
        (
            [prediction_line("zz")],
            r"said\.jsonl and the annotations have no id in common \(for example 'zz' and 'q1'\); give predictions",
        ),
        (
            [prediction_line(1)],
            r"said\.jsonl and the annotations have no id in common \(for example '1' and 'q1'\); give predictions",
        ),
    ],
)
def test_invalid_predictions_raise(tmp_path: Path, said: list[Any], message: str) -> None:
    for profile in ("fixed", "paper"):
        with pytest.raises(AnnotationError, match=message) as caught:
            evaluate(tmp_path, said=said, profile=profile)
        assert "said.jsonl" in str(caught.value)


def test_an_empty_list_of_turns_is_silence(tmp_path: Path) -> None:
    said = [{"question_id": "q1", "model_response_list": []}, *SAID[1:]]
    assert evaluate(tmp_path, said=said).items[0]["in_span"] == 1.0


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
        ([gold_entry("q1", ([0, 4], " "))], "gold answer 0: content is ' '"),
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
        ([{**gold_entry("q1"), "answer": "a"}], "answer is 'a'"),
    ],
)
def test_invalid_annotations_raise(tmp_path: Path, gold: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(tmp_path, gold=gold)
    assert "gold.json" in str(caught.value)


def test_predictions_without_gold_answers_raise(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="give the annotations"):
        magqa.evaluate(files(tmp_path)[0], None, judge=ScriptedJudge(GRADES))


def test_a_report_can_be_written(tmp_path: Path) -> None:
    assert json.loads(json.dumps(evaluate(tmp_path).to_dict(per_item=True)))["benchmark"] == "magqa"
    assert str(JudgedPair("q1", 0, 1)) == "question_id 'q1', gold answer 0, assistant turn 1"
