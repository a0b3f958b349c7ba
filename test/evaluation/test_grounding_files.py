"""Temporal grounding: supported files, reported problems, and errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from grounding_cases import charades, files, frames, gold, segments, text

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.grounding import evaluate
from mmduet.metrics.grounding import (
    sweep_thresholds,
)

Json = dict[str, Any]

RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7")


def test_only_the_first_segment_counts(tmp_path: Path) -> None:
    predictions = segments([[0, 10]], [], [[0.0, 8.0], [0.0, 10.0]])
    report = evaluate(*files(tmp_path, predictions, charades([0, 10], [0, 10], [0, 10])))
    assert report.metrics == pytest.approx({"mIoU": 60, "R1@0.3": 200 / 3, "R1@0.5": 200 / 3, "R1@0.7": 200 / 3})
    assert [item["mIoU"] for item in report.items] == pytest.approx([100, 0, 80])  # the first segment alone
    assert [item["id"] for item in report.items] == [0, 1, 2]
    assert report.intervals["mIoU"][0] < 60 < report.intervals["mIoU"][1]
    assert not report.problems
    assert any("1 of 3 predictions have no segment" in note for note in report.notes)


def test_the_best_of_several_gold_spans_counts(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, segments([[10, 20]]), gold([[0, 5], [10, 20]])))
    assert report.metrics["mIoU"] == 100


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_missing_segments_are_misses_except_with_sample(tmp_path: Path, profile: Any) -> None:
    paths = files(tmp_path, segments([[0, 10]]), charades([0, 10], [0, 10]))
    whole, sample = evaluate(*paths, profile=profile), evaluate(*paths, profile=profile, sample=True)
    assert (whole.metrics["mIoU"], sample.metrics["mIoU"]) == (50, 100)
    assert [str(p) for p in whole.problems] == ["1: has no prediction (counted as IoU 0)"]
    assert not sample.problems
    assert sample.notes[0] == "Only the predicted queries count: 1 of 2."
    with pytest.raises(AnnotationError, match="1: has no prediction"):
        evaluate(*paths, profile=profile, strict=True)


def test_missing_frame_scores_count_zero_or_are_left_out(tmp_path: Path) -> None:
    paths = files(tmp_path, [frames("0", [0, 1, 1, 0]), frames("9", [0, 1])], gold([[1, 2]], [[1, 2]]))
    fixed, paper = evaluate(*paths, smoothing=0), evaluate(*paths, smoothing=0, profile="paper")
    assert (fixed.metrics["mIoU"], paper.metrics["mIoU"]) == (50, 100)
    assert [str(p) for p in fixed.problems] == [
        "1: has no prediction (counted as IoU 0)",
        "9: is not in the annotations (counted as nothing: left out)",
    ]
    assert paper.problems[0].counted_as == "left out, as in the original"


def test_frame_scores_by_hand(tmp_path: Path) -> None:
    # normalised 0 .5 1 .25; gold frames 1 and 2
    report = evaluate(*files(tmp_path, [frames(0, [0.2, 0.4, 0.6, 0.3])], gold([[1, 2]])), smoothing=0)
    assert report.metrics["mIoU"] == 100
    by_setting = {(row["smoothing"], row["threshold"]): row for row in report.sweep}
    assert len(by_setting) == len(report.sweep) == 15 * 21
    assert by_setting[0, 0.3]["mIoU"] == 100
    assert by_setting[0, sweep_thresholds()[15]]["mIoU"] == 50  # 0.6: frame 2 alone
    assert report.metrics["best-R1@0.7"] == report.metrics["oracle-threshold-mIoU"] == 100
    # so far: nothing, then 1 1 .25
    assert report.metrics["causal-mIoU"] == 100
    assert list(report.metrics) == [
        *(f"{prefix}{name}" for prefix in ("", "causal-", "oracle-threshold-") for name in ("mIoU", *RECALLS)),
        *(f"best-{name}" for name in ("mIoU", *RECALLS)),
    ]
    assert report.intervals.keys() == {name for name in report.metrics if not name.startswith("best-")}
    assert sum("tuned on the test set" in note for note in report.notes) == 1


def test_the_oracle_uses_the_best_threshold_of_each_query(tmp_path: Path) -> None:
    # smoothed by nothing; query 0 needs a threshold up to .4, query 1 one above .4
    rows = [frames("0", [0.0, 0.4, 1.0, 0.0]), frames("1", [0.0, 0.4, 1.0, 0.0])]
    report = evaluate(*files(tmp_path, rows, gold([[1, 2]], [[2, 2]])), smoothing=0)
    assert report.metrics["oracle-threshold-mIoU"] == 100
    assert max(row["mIoU"] for row in report.sweep if row["smoothing"] == 0) == 75
    assert report.metrics["mIoU"] == 75


def test_causal_scores_do_not_depend_on_later_frames(tmp_path: Path) -> None:
    """A peak after the span takes the span's frames below the threshold of the whole, not of what was so far."""
    rows = [frames("0", [0.0, 0.2, 0.2, 0.0, 0.0, 0.0])], [frames("0", [0.0, 0.2, 0.2, 0.0, 0.0, 1.0])]
    before, after = (evaluate(*files(tmp_path, row, gold([[1, 2]])), smoothing=0).metrics for row in rows)
    assert (before["mIoU"], after["mIoU"]) == (100, 0)
    assert (before["causal-mIoU"], after["causal-mIoU"]) == pytest.approx((100, 100 * 2 / 3))


def test_constant_scores_have_no_relevant_frame(tmp_path: Path) -> None:
    rows = [frames("0", [0.1] * 12), frames("1", [0.0] * 12), frames("2", [0.7])]
    paths = files(tmp_path, rows, gold([[0, 20]], [[0, 20]], [[0, 20]]))
    fixed = evaluate(*paths)
    assert all(value == 0 for value in fixed.metrics.values())
    assert all(row["mIoU"] == 0 for row in fixed.sweep)
    # The original normalises the rounding of means: (0.1 + 0.1 + 0.1) / 3 is not 0.1.
    paper = evaluate(*paths, profile="paper")
    assert [item["mIoU"] > 0 for item in paper.items] == [True, False, False]


def test_text_answers_by_hand(tmp_path: Path) -> None:
    rows = [text("0", "0 - 9 seconds"), text("1", "from 0", "to 50"), text("2", "no idea"), text("3")]
    paths = files(tmp_path, rows, gold([[0, 9], [30, 40]], [[0, 10]], [[0, 9]], [[0, 9]]))
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    assert fixed.metrics["mIoU"] == pytest.approx((100 + 100 + 0 + 0) / 4)
    assert paper.metrics["mIoU"] == pytest.approx(100)  # the others are dropped
    assert [p.counted_as for p in fixed.problems] == ["IoU 0"] * 2
    assert [str(p) for p in paper.problems] == [
        "2: the answer 'no idea' does not contain exactly two numbers (counted as dropped, as in the original)",
        "3: the answer '' does not contain exactly two numbers (counted as dropped, as in the original)",
    ]
    assert "mIoU" not in paper.items[2]
    assert any("(+1)" in note for note in fixed.notes)


def test_a_dropped_answer_has_no_hits_either(tmp_path: Path) -> None:
    paper = evaluate(*files(tmp_path, [text("0", "?")], gold([[0, 9]])), profile="paper")
    assert all(math.isnan(value) for value in paper.metrics.values())
    assert not paper.intervals


def test_answers_of_baselines_are_read(tmp_path: Path) -> None:
    rows = [{"question_id": 0, "model_response": ["0 - 9"]}, {"question_id": 1, "model_response": "0 - 9"}]
    assert evaluate(*files(tmp_path, rows, gold([[0, 9]], [[0, 9]]))).metrics["mIoU"] == 100


def test_the_form_of_predictions_can_be_given(tmp_path: Path) -> None:
    both = {**frames("0", [0, 1, 1, 0]), "model_response_list": text("0", "0 - 9")["model_response_list"]}
    paths = files(tmp_path, [both], gold([[0, 9]]))
    assert "sweep" in " ".join(evaluate(*paths).notes)
    assert evaluate(*paths, form="text").metrics["mIoU"] == 100
    with pytest.raises(
        AnnotationError, match=r"predictions\.jsonl has predictions of the form frames, not segments; give that form"
    ):
        evaluate(*paths, form="segments")
    with pytest.raises(
        AnnotationError, match=r"predictions\.jsonl has predictions of the form segments, not text; give that form"
    ):
        evaluate(*files(tmp_path, segments([[0, 9]]), gold([[0, 9]])), form="text")


def test_one_line_or_a_list_of_predictions_is_read(tmp_path: Path) -> None:
    rows = [frames("0", [0, 1, 1, 0])]
    for form in (rows, json.dumps(rows), json.dumps(rows, indent=1)):
        assert evaluate(*files(tmp_path, form, gold([[1, 2]])), smoothing=0).metrics["mIoU"] == 100


def test_frames_without_a_score_have_relevance_zero(tmp_path: Path) -> None:
    row = frames("0", [0.0, 0.9, 0.8, 0.0])
    del row["debug_data"][0]["relevance_score"], row["debug_data"][3]["relevance_score"]
    assert evaluate(*files(tmp_path, [row], gold([[1, 2]])), smoothing=0).metrics["mIoU"] == 100


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"timestamp": [[math.nan, 5]]}, "the start of segments, number 0, is nan, expected a finite number"),
        ({"timestamp": [[0, math.inf]]}, "the end of segments, number 0, is inf, expected a finite number"),
        ({"timestamp": [["0", "5"]]}, "the start of segments, number 0, is '0', expected a finite number"),
        ({"timestamp": [5, 6]}, "segments, number 0, is 5, expected [start, end] in seconds"),
        ({"timestamp": [[5]]}, "segments, number 0, is [5], expected [start, end] in seconds"),
        ({"timestamp": "0-5"}, "segments is '0-5', expected a list"),
        ({"timestamp": None}, "segments is None, expected a list"),
        ({"time": 1}, "missing timestamp in {'time': 1}"),
        ([0, 5], "missing timestamp in [0, 5]"),
        ({"timestamp": [[9, 0]]}, "segment [9.0, 0.0] ends before it starts"),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_segments_are_misses(tmp_path: Path, row: object, message: str, profile: Any) -> None:
    paths = files(tmp_path, {**segments([[0, 9]]), "1": row}, charades([0, 9], [0, 9]))
    report = evaluate(*paths, profile=profile)
    assert [problem.id for problem in report.problems] == ["1"]
    assert message in report.problems[0].message
    assert report.problems[0].counted_as == "IoU 0"
    assert report.metrics["mIoU"] == 50
    with pytest.raises(AnnotationError, match=r"1 prediction has problems \(fix them, or leave out --strict\):"):
        evaluate(*paths, profile=profile, strict=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (frames("1", []), "debug_data has no frames"),
        (frames("1", [0.1, math.nan]), "relevance_score, number 1, is nan, expected a finite number"),
        (frames("1", [0.1, math.inf]), "relevance_score, number 1, is inf, expected a finite number"),
        (frames("1", [0.1, "x"]), "relevance_score, number 1, is 'x', expected a finite number"),
        (frames("1", [0.1, None]), "relevance_score, number 1, is None, expected a finite number"),
        (frames("1", [0.1, 0.2], interval=0.0), "a frame at 0.0 s follows one at 0.0 s; times must increase"),
        (frames("1", [0.1, 0.2], interval=-1.0), "a frame at -1.0 s follows one at -0.0 s; times must increase"),
        ({"question_id": "1"}, "debug_data is None, expected a list"),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_frames_have_iou_zero(tmp_path: Path, row: Json, message: str, profile: Any) -> None:
    report = evaluate(
        *files(tmp_path, [frames("0", [0, 1, 1, 0]), row], gold([[1, 2]], [[1, 2]])), profile=profile, smoothing=0
    )
    assert [problem.id for problem in report.problems] == ["1"]
    assert message in report.problems[0].message
    assert report.metrics["mIoU"] == report.metrics["causal-mIoU"] == 50


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (text("1", 5), "turn 1: content is 5, expected a text"),
        (text("1", "from 10 to 50", duration=None), "the answer is in per cent, but the row has no video_duration"),
        (text("1", "from 10 to 50", duration="20"), "video_duration is '20', expected a number of seconds"),
        (text("1", "from 10 to 50", duration=-1), "video_duration is -1, expected a number of seconds"),
        (text("1", "1 2 3"), "the answer '1 2 3' does not contain exactly two numbers"),
        ({"question_id": "1", "model_response_list": "0 - 9"}, "model_response_list is '0 - 9', expected a list"),
        ({"question_id": "1", "model_response": []}, "model_response is [], expected a text"),
        ({"question_id": "1"}, "model_response is None, expected a text"),
    ],
)
def test_malformed_answers_have_iou_zero_or_are_dropped(tmp_path: Path, row: Json, message: str) -> None:
    paths = files(tmp_path, [text("0", "0 - 9"), row], gold([[0, 9]], [[0, 9]]))
    for profile, expected in (("fixed", 50), ("paper", 100)):
        report = evaluate(*paths, profile=profile)  # type: ignore[arg-type]
        assert [problem.id for problem in report.problems] == ["1"]
        assert message in report.problems[0].message
        assert report.metrics["mIoU"] == expected


def test_an_answer_in_percent_for_a_video_without_length(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [text("0", "from 0 to 100", duration=0)], gold([[0, 4]])))
    assert report.metrics["mIoU"] == pytest.approx(100 / 5)  # one second of five, ends included


@pytest.mark.parametrize(
    ("predictions", "annotations", "message"),
    [
        ([], gold([[0, 9]]), "predictions.jsonl is empty; check that it is the right file"),
        ({}, gold([[0, 9]]), "predictions.jsonl is empty; check that it is the right file"),
        ("[]", gold([[0, 9]]), "predictions.jsonl is empty; check that it is the right file"),
        ("not json", gold([[0, 9]]), "predictions.jsonl, line 1 is not JSON"),
        ("7", gold([[0, 9]]), "predictions.jsonl holds a int, expected an object or a list"),
        (
            {"a": 1},
            gold([[0, 9]]),
            "predictions.jsonl has neither {id: {timestamp}} nor lines with question_id; check that it holds",
        ),
        (
            '{"0": {"timestamp": []}, "0": {"timestamp": []}}',
            gold([[0, 9]]),
            "predictions.jsonl: key '0' is listed twice in one object; keep one",
        ),
        ([text("0"), text(0)], gold([[0, 9]]), "predictions.jsonl: id '0' is listed twice; keep one entry per id"),
        (
            [text(None)],
            gold([[0, 9]]),
            "predictions.jsonl, entry 0: question_id is None, expected a text or a whole number",
        ),
        (
            [{"question_id": 0}],
            gold([[0, 9]]),
            "predictions.jsonl: no entry has relevance scores in debug_data or a model_response_list; check that it holds",
        ),
        (segments([[0, 9]]), [], "gold.json is empty; check that it is the right file"),
        (segments([[0, 9]]), {"annotations": []}, "gold.json has no queries; check that it is the annotation file"),
        (
            segments([[0, 9]]),
            {"a": 1},
            "gold.json has neither a list of question_id and timestamps nor annotations of id and timestamp;",
        ),
        (segments([[0, 9]]), "not json", "gold.json is not JSON"),
        (
            segments([[0, 9]]),
            [*gold([[0, 9]]), *gold([[0, 9]])],
            "gold.json: id '0' is listed twice; keep one entry per id",
        ),
        (
            segments([[0, 9]]),
            gold([[9, 0]]),
            "gold.json, query 0: gold spans, number 0, is [9, 0]: it ends before it starts; swap its ends",
        ),
        (segments([[0, 9]]), gold([]), "gold.json, query 0: there is no gold span; add one, or leave the query out"),
        (
            segments([[0, 9]]),
            gold([["a", 9]]),
            "gold.json, query 0: the start of gold spans, number 0, is 'a', expected a finite number",
        ),
        (
            segments([[0, 9]]),
            charades([0]),
            "gold.json, query 0: gold spans, number 0, is [0], expected [start, end] in seconds",
        ),
        (
            {"7": {"timestamp": []}},
            gold([[0, 9]]),
            "gold.json have no id in common (for example '7' and '0'); give predictions and annotations of the same split",
        ),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, predictions: object, annotations: object, message: str) -> None:
    with pytest.raises(AnnotationError) as error:
        evaluate(*files(tmp_path, predictions, annotations))
    assert message in str(error.value)


def test_missing_files_are_rejected(tmp_path: Path) -> None:
    paths = files(tmp_path, segments([[0, 9]]), gold([[0, 9]]))
    for pair in ((tmp_path / "none", paths[1]), (paths[0], tmp_path / "none")):
        with pytest.raises(AnnotationError, match="none does not exist; check the path"):
            evaluate(*pair)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"smoothing": -1}, "smoothing must be at least 0 frames, got -1"),
        ({"threshold": 0.0}, r"threshold must be above 0 and at most 1, got 0\.0; scores are normalised to \[0, 1\]"),
        ({"threshold": math.nan}, "threshold must be above 0 and at most 1, got nan"),
        ({"threshold": 2.0}, r"threshold must be above 0 and at most 1, got 2\.0"),
    ],
)
def test_options_out_of_range_are_rejected(tmp_path: Path, options: dict[str, Any], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        evaluate(*files(tmp_path, [frames("0", [0, 1])], gold([[0, 9]])), **options)
