"""QVHighlights: supported files, reported problems, and errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from qvhighlights_cases import files, frames, query, submission

from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks.qvhighlights import evaluate

Json = dict[str, Any]


def test_a_perfect_submission_scores_100(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1), submission("2")], [query(1), query(2)]))
    assert [name for name in report.metrics if name.startswith("MR-")] == [
        *("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP", "MR-full-mAP@0.5", "MR-full-mAP@0.75"),
        *("MR-long-mAP", "MR-middle-mAP", "MR-short-mAP"),
    ]
    assert math.isnan(report.metrics["MR-long-mAP"])  # no window is that long
    assert "MR-long-mAP" not in report.intervals
    assert report.to_dict()["metrics"]["MR-long-mAP"] is None
    assert report.metrics["MR-short-mAP"] == report.metrics["MR-full-R1@0.7"] == 100
    assert report.metrics["HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-Hit1"] == 100
    assert report.intervals["HL-min-VeryGood-mAP"] == (100, 100)
    assert [item["id"] for item in report.items] == [1, 2]
    assert report.items[0]["MR-full-mAP"] == 100
    assert not report.problems


@pytest.mark.parametrize(("part", "other"), [("pred_saliency_scores", "MR-"), ("pred_relevant_windows", "HL-")])
def test_only_the_present_part_is_scored(tmp_path: Path, part: str, other: str) -> None:
    rows = [{"qid": 1, part: submission()[part]}]
    report = evaluate(*files(tmp_path, rows, [query(1)]))
    assert not any(name.startswith(other) for name in report.metrics)
    assert not report.problems


def test_missing_queries_count_zero_or_are_left_out(tmp_path: Path) -> None:
    paths = files(tmp_path, [submission(1), submission(9)], [query(1), query(2)])
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    for name in ("HL-min-VeryGood-mAP", "HL-min-VeryGood-Hit1", "MR-full-mAP", "MR-full-R1@0.5"):
        assert (fixed.metrics[name], paper.metrics[name]) == (50, 100)
    assert [(p.id, p.message, p.counted_as) for p in fixed.problems] == [
        ("2", "has no prediction", "0"),
        ("9", "is not in the annotations", "nothing: left out"),
    ]
    assert [p.counted_as for p in paper.problems] == ["left out, as in the original", "nothing: left out"]
    assert [item["id"] for item in paper.items] == [1]
    with pytest.raises(AnnotationError, match="2: has no prediction"):
        evaluate(*paths, strict=True)


def test_a_query_without_windows_counts_zero_or_is_left_out(tmp_path: Path) -> None:
    paths = files(tmp_path, [submission(1), submission(2, pred_relevant_windows=[])], [query(1), query(2)])
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    assert (fixed.metrics["MR-full-mAP"], paper.metrics["MR-full-mAP"]) == (50, 100)
    assert (fixed.metrics["MR-full-R1@0.5"], paper.metrics["MR-full-R1@0.5"]) == (50, 100)
    assert (fixed.metrics["HL-min-VeryGood-mAP"], paper.metrics["HL-min-VeryGood-mAP"]) == (100, 100)
    assert [p.message for p in fixed.problems] == ["pred_relevant_windows is empty"]


@pytest.mark.parametrize(
    ("changes", "message", "counted", "metric", "expected"),
    [
        (
            {"pred_saliency_scores": [math.nan] * 10},
            "pred_saliency_scores, number 0, is nan, expected a finite number",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        (
            {"pred_saliency_scores": [1.0, math.inf]},
            "pred_saliency_scores, number 1, is inf, expected a finite number",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        (
            {"pred_saliency_scores": [1.0, "0.5"]},
            "pred_saliency_scores, number 1, is '0.5', expected a finite number",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        (
            {"pred_saliency_scores": [True]},
            "pred_saliency_scores, number 0, is True, expected a finite number",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        (
            {"pred_saliency_scores": [10**400]},
            f"pred_saliency_scores, number 0, is 1{76 * '0'}..., expected a finite number",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        (
            {"pred_saliency_scores": "high"},
            "pred_saliency_scores is 'high', expected a list",
            "0",
            "HL-min-VeryGood-mAP",
            0,
        ),
        ({"pred_saliency_scores": []}, "pred_saliency_scores is empty", "0", "HL-min-VeryGood-mAP", 0),
        (
            {"pred_saliency_scores": [0, 0, 0, 1, 1]},
            "has 5 clip scores for a video of 10 clips",
            "padded",
            "HL-min-Fair-mAP",
            100,
        ),
        (
            {"pred_saliency_scores": [0, 0, 0, 1] + [0.0] * 6 + [2]},
            "has 11 clip scores for a video of 10 clips",
            "cut",
            "HL-min-Good-Hit1",
            0,
        ),
        (
            {"pred_relevant_windows": [[10, 6, 0.9]]},
            "window [10.0, 6.0, 0.9] does not end after it starts",
            "IoU 0",
            "MR-full-mAP",
            0,
        ),
        (
            {"pred_relevant_windows": [[6, 6, 0.9]]},
            "window [6.0, 6.0, 0.9] does not end after it starts",
            "IoU 0",
            "MR-full-R1@0.5",
            0,
        ),
        (
            {"pred_relevant_windows": [[6, 60, 0.9]]},
            "window [6.0, 60.0, 0.9] exceeds the video of 20.0 s",
            "given",
            "MR-full-R1@0.5",
            0,
        ),
        (
            {"pred_relevant_windows": [[-4, 10, 1]]},
            "window [-4.0, 10.0, 1.0] exceeds the video of 20.0 s",
            "given",
            "MR-full-R1@0.5",
            0,
        ),
        (
            {"pred_relevant_windows": [[6, 10]]},
            "pred_relevant_windows, number 0, is [6, 10], expected [start, end, score]",
            "0",
            "MR-full-mAP",
            0,
        ),
        (
            {"pred_relevant_windows": [[6, 10, math.nan]]},
            "pred_relevant_windows, number 0, score is nan, expected a finite number",
            "0",
            "MR-full-mAP",
            0,
        ),
        (
            {"pred_relevant_windows": [6, 10, 1]},
            "pred_relevant_windows, number 0, is 6, expected [start, end, score]",
            "0",
            "MR-full-R1@0.7",
            0,
        ),
        (
            {"pred_relevant_windows": {"a": 1}},
            "pred_relevant_windows is {'a': 1}, expected a list",
            "0",
            "MR-full-R1@0.7",
            0,
        ),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_predictions_are_reported(
    tmp_path: Path, changes: Json, message: str, counted: str, metric: str, expected: float, profile: Any
) -> None:
    """Query 2 is perfect, so that the metric is the mean of 100 and what query 1 is counted as."""
    paths = files(tmp_path, [submission(1, **changes), submission(2)], [query(1), query(2)])
    report = evaluate(*paths, profile=profile)
    assert [problem.id for problem in report.problems] == ["1"]
    assert message in report.problems[0].message
    assert report.problems[0].counted_as.startswith(counted)
    assert report.metrics[metric] == pytest.approx((100 + expected) / 2)
    with pytest.raises(AnnotationError, match=r"1 prediction has problems \(fix them, or leave out --strict\):"):
        evaluate(*paths, profile=profile, strict=True)


def test_a_part_that_is_missing_in_one_line_counts_zero(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1, pred_saliency_scores=None), submission(2)], [query(1), query(2)]))
    assert [str(problem) for problem in report.problems] == [
        "1: missing pred_saliency_scores in {'qid': 1, 'pred_relevant_windows': [[6, 10, 0.9]]} (counted as 0)"
    ]
    assert (report.metrics["HL-min-Good-Hit1"], report.metrics["MR-full-mAP"]) == (50, 100)


def test_unusable_scores_count_zero(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1, pred_saliency_scores=[math.nan])], [query(1)]))
    assert (report.metrics["HL-min-Good-mAP"], report.metrics["MR-full-mAP"]) == (0, 100)


@pytest.mark.parametrize(
    ("predictions", "gold", "message"),
    [
        ([], [query()], "predictions.jsonl is empty; check that it is the right file"),
        ("not json", [query()], "predictions.jsonl, line 1 is not JSON"),
        ([[1]], [query()], "predictions.jsonl, entry 0, is 1, expected an object"),
        (
            [submission(1), submission("1")],
            [query()],
            "predictions.jsonl: id '1' is listed twice; keep one entry per id",
        ),
        ([submission(1)], [query(), query()], "gold.jsonl: id '1' is listed twice; keep one entry per id"),
        (
            [submission(True)],
            [query()],
            "predictions.jsonl, entry 0: qid is True, expected a text or a whole number",
        ),
        (
            [{"pred_saliency_scores": [1]}, submission()],
            [query()],
            "predictions.jsonl, entry 0: missing qid in {'pred_saliency_scores': [1]}",
        ),
        (
            [{"qid": 1}],
            [query()],
            "predictions.jsonl: no line has pred_saliency_scores or pred_relevant_windows; check that it holds predictions",
        ),
        ([{"question_id": 1}], [query()], "predictions.jsonl: no line has debug_data; check that it holds predictions"),
        (
            [submission(5)],
            [query()],
            "gold.jsonl have no id in common (for example '5' and '1'); give predictions and annotations of the same split",
        ),
        ([submission()], [], "gold.jsonl is empty; check that it is the right file"),
        ([submission()], [query(duration=0)], "gold.jsonl, query 1: duration is 0, expected 2 (one clip) to 1000000 s"),
        (
            [submission()],
            [query(duration="150")],
            "gold.jsonl, query 1: duration is '150', expected 2 (one clip) to 1000000 s",
        ),
        (
            [submission()],
            [query(duration=math.nan)],
            "gold.jsonl, query 1: duration is nan, expected 2 (one clip) to 1000000 s",
        ),
        (
            [submission()],
            [query(relevant_clip_ids=[3, 10])],
            "gold.jsonl, query 1: relevant clip 10 is not a clip of the video, which has 10",
        ),
        (
            [submission()],
            [query(relevant_clip_ids=[3])],
            "gold.jsonl, query 1: there are 1 relevant_clip_ids and 2 saliency_scores, expected as many",
        ),
        (
            [submission()],
            [query(saliency_scores=[[4, 4, 4], [4, 4]])],
            "gold.jsonl, query 1: saliency_scores, number 1, is [4, 4], expected [first, second, third]",
        ),
        (
            [submission()],
            [query(saliency_scores=[[4, 4, 4], [4, 4, "x"]])],
            "gold.jsonl, query 1: saliency_scores, number 1, third is 'x', expected a finite number",
        ),
        (
            [submission()],
            [query(relevant_windows=[[10, 6]])],
            "gold.jsonl, query 1: relevant_windows, number 0, is [10, 6]: it ends before it starts; swap its ends",
        ),
        (
            [submission()],
            [query(relevant_windows=None)],
            "gold.jsonl: query 1 has no relevant_windows; moment metrics need a split with labels",
        ),
        (
            [submission()],
            [query(relevant_clip_ids=None)],
            "gold.jsonl: query 1 has no relevant_clip_ids; highlight metrics need a split with labels",
        ),
        (
            [frames()],
            [query(relevant_clip_ids=None)],
            "gold.jsonl: query 1 has no relevant_clip_ids; highlight metrics need a split with labels",
        ),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, predictions: Any, gold: Any, message: str) -> None:
    with pytest.raises(AnnotationError) as error:
        evaluate(*files(tmp_path, predictions, gold))
    assert message in str(error.value)


def test_a_split_without_labels_of_one_part_can_be_scored_in_the_other(tmp_path: Path) -> None:
    rows = [submission(pred_relevant_windows=None)]
    assert evaluate(*files(tmp_path, rows, [query(relevant_windows=None)])).metrics["HL-min-Good-Hit1"] == 100


def test_queries_without_relevant_clips_or_windows(tmp_path: Path) -> None:
    """Their AP of highlights is 0; moment retrieval leaves them out, because there is no window to find."""
    empty = query(2, relevant_clip_ids=[], saliency_scores=[], relevant_windows=[])
    report = evaluate(*files(tmp_path, [submission(1), submission(2)], [query(1), empty]))
    assert (report.metrics["HL-min-Good-mAP"], report.metrics["MR-full-mAP"]) == (50, 100)
    assert "MR-full-mAP" not in report.items[1]
