"""QVHighlights' files: what is read, what is told, what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from qvhighlights_cases import files, frames, query, submission

from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks.qvhighlights import evaluate

Json = dict[str, Any]


def test_a_perfect_submission(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1), submission("2")], [query(1), query(2)]))
    assert [name for name in report.metrics if name.startswith("MR-")] == [
        *("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP", "MR-full-mAP@0.5", "MR-full-mAP@0.75"),
        *("MR-long-mAP", "MR-middle-mAP", "MR-short-mAP"),
    ]
    assert math.isnan(report.metrics["MR-long-mAP"])  # no window is that long
    assert "MR-long-mAP" not in report.intervals
    assert report.to_json()["metrics"]["MR-long-mAP"] is None
    assert report.metrics["MR-short-mAP"] == report.metrics["MR-full-R1@0.7"] == 100
    assert report.metrics["HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-Hit1"] == 100
    assert report.intervals["HL-min-VeryGood-mAP"] == (100, 100)
    assert [item["id"] for item in report.items] == [1, 2]
    assert report.items[0]["MR-full-mAP"] == 100
    assert not report.problems


@pytest.mark.parametrize(("part", "other"), [("pred_saliency_scores", "MR-"), ("pred_relevant_windows", "HL-")])
def test_only_the_part_that_is_there_is_scored(tmp_path: Path, part: str, other: str) -> None:
    rows = [{"qid": 1, part: submission()[part]}]
    report = evaluate(*files(tmp_path, rows, [query(1)]))
    assert not any(name.startswith(other) for name in report.metrics)
    assert not report.problems


def test_missing_queries_count_zero_or_not_at_all(tmp_path: Path) -> None:
    paths = files(tmp_path, [submission(1), submission(9)], [query(1), query(2)])
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    for name in ("HL-min-VeryGood-mAP", "HL-min-VeryGood-Hit1", "MR-full-mAP", "MR-full-R1@0.5"):
        assert (fixed.metrics[name], paper.metrics[name]) == (50, 100)
    assert [(p.id, p.what, p.counted) for p in fixed.problems] == [
        ("2", "no prediction", "0"),
        ("9", "is not annotated", "left out"),
    ]
    assert [p.counted for p in paper.problems] == ["left out, as in the original", "left out"]
    assert [item["id"] for item in paper.items] == [1]
    with pytest.raises(AnnotationError, match="2: no prediction"):
        evaluate(*paths, strict=True)


def test_a_query_without_windows_counts_zero_or_not_at_all(tmp_path: Path) -> None:
    paths = files(tmp_path, [submission(1), submission(2, pred_relevant_windows=[])], [query(1), query(2)])
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    assert (fixed.metrics["MR-full-mAP"], paper.metrics["MR-full-mAP"]) == (50, 100)
    assert (fixed.metrics["MR-full-R1@0.5"], paper.metrics["MR-full-R1@0.5"]) == (50, 100)
    assert (fixed.metrics["HL-min-VeryGood-mAP"], paper.metrics["HL-min-VeryGood-mAP"]) == (100, 100)
    assert [p.what for p in fixed.problems] == ["pred_relevant_windows is empty"]


@pytest.mark.parametrize(
    ("changes", "what", "counted", "metric", "expected"),
    [
        ({"pred_saliency_scores": [math.nan] * 10}, "number 0 is nan", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": [1.0, math.inf]}, "number 1 is inf", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": [1.0, "0.5"]}, "number 1 is '0.5'", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": [True]}, "number 0 is True", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": [10**400]}, "number 0 is 1000", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": "high"}, "are 'high', not a list", "0", "HL-min-VeryGood-mAP", 0),
        ({"pred_saliency_scores": []}, "is empty", "0", "HL-min-VeryGood-mAP", 0),
        (
            {"pred_saliency_scores": [0, 0, 0, 1, 1]},
            "5 clip scores for a video of 10",
            "padded",
            "HL-min-Fair-mAP",
            100,
        ),
        ({"pred_saliency_scores": [0, 0, 0, 1] + [0.0] * 6 + [2]}, "11 clip scores", "cut", "HL-min-Good-Hit1", 0),
        ({"pred_relevant_windows": [[10, 6, 0.9]]}, "[10.0, 6.0, 0.9] does not end", "IoU 0", "MR-full-mAP", 0),
        ({"pred_relevant_windows": [[6, 6, 0.9]]}, "does not end after it starts", "IoU 0", "MR-full-R1@0.5", 0),
        ({"pred_relevant_windows": [[6, 60, 0.9]]}, "leaves the video of 20.0 s", "it stands", "MR-full-R1@0.5", 0),
        ({"pred_relevant_windows": [[-4, 10, 1]]}, "leaves the video", "it stands", "MR-full-R1@0.5", 0),
        ({"pred_relevant_windows": [[6, 10]]}, "is [6, 10], not [start, end, score]", "0", "MR-full-mAP", 0),
        ({"pred_relevant_windows": [[6, 10, math.nan]]}, "number 2 is nan", "0", "MR-full-mAP", 0),
        ({"pred_relevant_windows": [6, 10, 1]}, "number 0 is 6", "0", "MR-full-R1@0.7", 0),
        ({"pred_relevant_windows": {"a": 1}}, "not a list", "0", "MR-full-R1@0.7", 0),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_predictions_are_told(
    tmp_path: Path, changes: Json, what: str, counted: str, metric: str, expected: float, profile: Any
) -> None:
    """Query 2 is perfect, so that the metric is the mean of 100 and what query 1 is counted as."""
    paths = files(tmp_path, [submission(1, **changes), submission(2)], [query(1), query(2)])
    report = evaluate(*paths, profile=profile)
    assert [problem.id for problem in report.problems] == ["1"]
    assert what in report.problems[0].what
    assert report.problems[0].counted.startswith(counted)
    assert report.metrics[metric] == pytest.approx((100 + expected) / 2)
    with pytest.raises(AnnotationError, match="1 prediction cannot be used"):
        evaluate(*paths, profile=profile, strict=True)


def test_a_part_that_one_line_lacks(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1, pred_saliency_scores=None), submission(2)], [query(1), query(2)]))
    assert [str(problem) for problem in report.problems] == ["1: no pred_saliency_scores (counted as 0)"]
    assert (report.metrics["HL-min-Good-Hit1"], report.metrics["MR-full-mAP"]) == (50, 100)


def test_nothing_usable_is_zero(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [submission(1, pred_saliency_scores=[math.nan])], [query(1)]))
    assert (report.metrics["HL-min-Good-mAP"], report.metrics["MR-full-mAP"]) == (0, 100)


@pytest.mark.parametrize(
    ("predictions", "gold", "told"),
    [
        ([], [query()], "predictions.jsonl is empty"),
        ("not json", [query()], "predictions.jsonl, line 1 is not JSON"),
        ([[1]], [query()], "line 1 holds a list"),
        ([submission(1), submission("1")], [query()], "qid 1 is there twice"),
        ([submission(1)], [query(), query()], "gold.jsonl: qid 1 is there twice"),
        ([submission(True)], [query()], "entry 1 has no qid"),
        ([{"pred_saliency_scores": [1]}, submission()], [query()], "entry 1 has no qid"),
        ([{"qid": 1}], [query()], "no line has pred_saliency_scores or pred_relevant_windows"),
        ([{"question_id": 1}], [query()], "no line has debug_data"),
        ([submission(5)], [query()], "none of its 1 ids"),
        ([submission()], [], "gold.jsonl is empty"),
        ([submission()], [query(duration=0)], "query 1: duration is 0"),
        ([submission()], [query(duration="150")], "duration is '150'"),
        ([submission()], [query(duration=math.nan)], "duration is nan"),
        ([submission()], [query(relevant_clip_ids=[3, 10])], "relevant clip 10 is none of the video's 10"),
        ([submission()], [query(relevant_clip_ids=[3])], "not lists of one length"),
        ([submission()], [query(saliency_scores=[[4, 4, 4], [4, 4]])], "not a rating from each of 3"),
        ([submission()], [query(saliency_scores=[[4, 4, 4], [4, 4, "x"]])], "number 2 is 'x'"),
        ([submission()], [query(relevant_windows=[[10, 6]])], "ends before it starts"),
        ([submission()], [query(relevant_windows=None)], "has no relevant_windows"),
        ([submission()], [query(relevant_clip_ids=None)], "has no relevant_clip_ids"),
        ([frames()], [query(relevant_clip_ids=None)], "has no relevant_clip_ids"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, predictions: Any, gold: Any, told: str) -> None:
    with pytest.raises(AnnotationError) as error:
        evaluate(*files(tmp_path, predictions, gold))
    assert told in str(error.value)


def test_a_split_without_labels_of_one_part_can_be_scored_in_the_other(tmp_path: Path) -> None:
    rows = [submission(pred_relevant_windows=None)]
    assert evaluate(*files(tmp_path, rows, [query(relevant_windows=None)])).metrics["HL-min-Good-Hit1"] == 100


def test_a_query_without_relevant_clips_or_windows(tmp_path: Path) -> None:
    """AP 0 whatever is said; no window to find, so left out of moment retrieval."""
    empty = query(2, relevant_clip_ids=[], saliency_scores=[], relevant_windows=[])
    report = evaluate(*files(tmp_path, [submission(1), submission(2)], [query(1), empty]))
    assert (report.metrics["HL-min-Good-mAP"], report.metrics["MR-full-mAP"]) == (50, 100)
    assert "MR-full-mAP" not in report.items[1]
