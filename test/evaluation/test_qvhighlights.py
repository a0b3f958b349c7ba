"""QVHighlights: by hand, against the original evaluator's numbers, one by one, and what is malformed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import average_precision as average_precision_slowly
from one_by_one import clip_scores, clip_scores_by_time, made_up_frames
from one_by_one import highlight_scores as highlight_scores_slowly

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.qvhighlights import evaluate
from mmduet.evaluation.benchmarks.qvhighlights_files import read_queries
from mmduet.evaluation.metrics import moments
from mmduet.evaluation.metrics.highlights import ClipScores, RatedClips, Ratings, average_precision, highlight_scores
from mmduet.evaluation.metrics.moments import IOU_THRESHOLDS, first_window_iou, moment_scores

Json = dict[str, Any]

SHARED = Path(os.environ.get("MMDUET_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
FOLDER = SHARED / "evaluators" / "qvhighlights"
GOLD = FOLDER / "highlight_val_release.jsonl"
needs_shared = pytest.mark.skipif(not FOLDER.is_dir(), reason="the reference data is not here")


def ap(scores: Sequence[float], positive: Sequence[int]) -> float:
    return float(average_precision(np.array([scores]), np.array([[positive]], dtype=bool))[0, 0])


# Highlights by hand


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        # thresholds .9 .8 .1 find 1/1, 2/3, 3/4; interpolated 1, 3/4, 3/4
        ([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 1], (1 + 3 / 4 + 3 / 4) / 3),
        ([0.9, 0.8, 0.7, 0.1], [0, 0, 1, 1], (2 / 4 + 2 / 4) / 2),  # 1/3 at half recall is less than 2/4 at the whole
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 1 / 4),  # one threshold
        ([0.5, 0.5, 0.5, 0.1], [1, 1, 0, 1], (3 / 4 + 3 / 4) / 2),  # two levels of recall for three positives
        ([0.1, 0.2], [0, 0], 0.0),
        ([0.1, 0.2], [1, 1], 1.0),
        ([-1.0, 0.0, -2.0], [1, 0, 0], 1 / 2),
    ],
)
def test_average_precision_by_hand(scores: list[float], positive: list[int], expected: float) -> None:
    assert ap(scores, positive) == pytest.approx(expected)
    assert average_precision_slowly(scores, [bool(p) for p in positive]) == pytest.approx(expected)


def test_highlights_of_one_query_by_hand() -> None:
    # 3 clips; clip 1 is rated 4, 2, 0 and clip 2 is rated 3, 3, 4
    truth = Ratings.of([RatedClips(3, [1, 2], [[4, 2, 0], [3, 3, 4]])])
    scores = highlight_scores(truth, ClipScores.of([[0.1, 0.9, 0.5]]))
    # VeryGood: annotator 1 has clip 1, found first; 2 has none; 3 has clip 2, found second
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([(1 + 0 + 1 / 2) / 3])
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [1.0]  # the first annotator's
    # Good: clips 1 and 2, then 2 twice
    assert scores["HL-min-Good-mAP"].tolist() == pytest.approx([(1 + 1 / 2 + 1 / 2) / 3])
    # Fair: 1 and 2, 1 and 2, then 2
    assert scores["HL-min-Fair-mAP"].tolist() == pytest.approx([(1 + 1 + 1 / 2) / 3])


def test_the_top_clip_is_the_first_of_the_best_and_may_lie_past_the_video() -> None:
    truth = Ratings.of([RatedClips(2, [1], [[4, 4, 4]])] * 3)
    scores = highlight_scores(truth, ClipScores.of([[0.5, 0.5], [0.1, 0.2], [0.1, 0.2, 0.3]]))
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [0.0, 1.0, 0.0]
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([1 / 2, 1.0, 1.0])  # the third clip is cut


def test_padding_outranks_negative_scores() -> None:
    truth = Ratings.of([RatedClips(3, [0], [[4, 4, 4]])])
    scores = highlight_scores(truth, ClipScores.of([[-0.1, -0.5]]))
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([1 / 2])  # clip 2, with 0.0, comes first
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [1.0]  # the top of what was given


few_scores = st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.3])


@given(st.lists(st.tuples(few_scores, st.booleans()), min_size=1, max_size=12), st.integers(0, 4))
def test_average_precision_against_one_threshold_at_a_time(clips: list[tuple[float, bool]], padding: int) -> None:
    scores, positive = [score for score, _ in clips], [p for _, p in clips]
    expected = average_precision_slowly(scores, positive)
    padded = ap([*scores, *[-math.inf] * padding], [*positive, *[0] * padding])
    assert padded == pytest.approx(expected)
    assert ap([3 * s + 1 for s in scores], positive) == pytest.approx(expected)  # ranks alone count


# Moments by hand


def moment(gold: list[list[float]], predicted: list[list[float]], length: str = "full") -> tuple[list[float], float]:
    scores = moment_scores([[tuple(g) for g in gold]], [[tuple(p) for p in predicted]])  # type: ignore[misc]
    return scores[length]["AP"][0].tolist(), float(scores[length]["IoU"][0])


def test_moments_by_hand() -> None:
    gold = [[0.0, 20.0], [40.0, 50.0]]
    predicted = [[41.0, 50.0, 0.2], [0.0, 20.0, 0.9], [0.0, 19.0, 0.5]]
    aps, first = moment(gold, predicted)
    # by score: [0, 20] fits exactly, [0, 19] finds that one taken, [41, 50] has IoU 9/10 with the other:
    # precision 1/1, 1/2, 2/3, each true positive worth half the recall
    assert aps == pytest.approx([(1 + 2 / 3) / 2] * 9 + [1 / 2])
    assert first == pytest.approx(9 / 10)  # the first in the file
    # lengths: [40, 50] is short, [0, 20] is middle, predicted windows stay
    assert moment(gold, predicted, "short")[0] == pytest.approx([1 / 3] * 9 + [0])
    assert moment(gold, predicted, "middle")[0] == pytest.approx([1.0] * 10)
    assert np.isnan(moment(gold, predicted, "long")[0]).all()


def test_only_ten_windows_in_the_order_of_the_file_count() -> None:
    late = [[50.0, 60.0, 0.1]] * 10 + [[0.0, 20.0, 0.9]]
    assert moment([[0.0, 20.0]], late) == ([0.0] * 10, 0.0)
    assert moment([[0.0, 20.0]], late[1:])[0] == [1.0] * 10


def test_of_two_gold_windows_that_fit_alike_the_later_one_is_taken() -> None:
    # [0, 4] has IoU 2/4 with both; [0, 2] then finds its own free
    aps, _ = moment([[0.0, 2.0], [2.0, 4.0]], [[0.0, 4.0, 0.9], [0.0, 2.0, 0.1]])
    assert aps[0] == 1.0


def test_windows_without_length_or_backwards_fit_nothing() -> None:
    assert moment([[0.0, 20.0]], [[5.0, 5.0, 1.0]]) == ([0.0] * 10, 0.0)
    assert moment([[0.0, 20.0]], [[20.0, 0.0, 1.0]]) == ([0.0] * 10, 0.0)
    assert moment([[5.0, 5.0]], [[5.0, 5.0, 1.0]]) == ([0.0] * 10, 0.0)


def moment_ap_slowly(gold: list[list[float]], predicted: list[list[float]], threshold: float) -> float:
    ranked = sorted(predicted[:10], key=lambda window: -window[2])
    free, true = set(range(len(gold))), []
    for start, end, _ in ranked:
        best, best_iou = -1, -1.0
        for g in sorted(free):
            shared = max(0.0, min(end, gold[g][1]) - max(start, gold[g][0]))
            overlap = shared / ((end - start) + (gold[g][1] - gold[g][0]) - shared) if shared else 0.0
            if overlap >= best_iou:
                best, best_iou = g, overlap
        true.append(best_iou >= threshold)
        if true[-1]:
            free.remove(best)
    precisions = [sum(true[: k + 1]) / (k + 1) for k in range(len(true))]
    return sum(max(precisions[k:]) for k in range(len(true)) if true[k]) / len(gold)


whole_windows = st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(0, 3)).map(
    lambda w: [float(w[0]), float(w[0] + w[1]), w[2] / 4]
)


@given(
    st.lists(st.lists(whole_windows, min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.lists(whole_windows, min_size=1, max_size=12), min_size=3, max_size=3),
)
def test_moments_against_one_window_at_a_time(
    gold: list[list[list[float]]], predicted: list[list[list[float]]]
) -> None:
    spans = [[(w[0], w[1]) for w in windows] for windows in gold]
    windows = [[(w[0], w[1], w[2]) for w in row] for row in predicted[: len(gold)]]
    fast = moments.average_precision(spans, windows)
    slow = [[moment_ap_slowly(gold[q], predicted[q], t) for t in IOU_THRESHOLDS] for q in range(len(gold))]
    assert fast == pytest.approx(np.array(slow))
    assert (first_window_iou(spans, windows) <= 1).all()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gold = [[(0.0, 10.0 + q), (20.0, 30.0)] for q in range(5)]
    predicted = [[(0.0, 12.0, 0.5), (19.0, 30.0, 0.9)]] * 5
    whole = moments.average_precision(gold, predicted)
    monkeypatch.setattr(moments, "AT_ONCE", 2)
    np.testing.assert_array_equal(moments.average_precision(gold, predicted), whole)


# Files


def query(qid: int | str = 1, **changes: object) -> Json:
    """10 clips, of which 3 and 4 are relevant."""
    row = {
        "qid": qid,
        "query": "a dog",
        "vid": "v",
        "duration": 20,
        "relevant_clip_ids": [3, 4],
        "saliency_scores": [[4, 4, 4], [2, 3, 4]],
        "relevant_windows": [[6, 10]],
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def submission(qid: int | str = 1, **changes: object) -> Json:
    """Right in everything."""
    row = {
        "qid": qid,
        "pred_saliency_scores": [0.0] * 3 + [0.9, 0.8] + [0.0] * 5,
        "pred_relevant_windows": [[6, 10, 0.9]],
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def frames(
    qid: int | str = 1, scores: Sequence[object] = (0.0,) * 6 + (0.9,) * 2 + (0.0,) * 12, fps: float = 1.0
) -> Json:
    data = [{"time": i / fps, "informative_score": 0.0, "relevance_score": score} for i, score in enumerate(scores)]
    return {"question_id": qid, "video_duration": 20.0, "model_response_list": [], "debug_data": data}


def files(folder: Path, predictions: Sequence[object] | str, gold: Sequence[object]) -> tuple[Path, Path]:
    paths = folder / "predictions.jsonl", folder / "gold.jsonl"
    for path, rows in zip(paths, (predictions, gold), strict=True):
        path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    return paths


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
    with pytest.raises(AnnotationError, match="1 predictions cannot be used"):
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


# Frame scores


def test_frame_scores_by_hand(tmp_path: Path) -> None:
    # At 1 fps frames 6 and 7 make clip 3: clip scores 0 0 0 1.8 0 ... Annotators' VeryGood clips: 3; 3; 3 and 4.
    report = evaluate(*files(tmp_path, [frames()], [query()]), smoothing=0)
    assert report.metrics["HL-min-VeryGood-Hit1"] == 100
    # For the third, clip 3 is found first, clip 4 in the tie of all the others: 1, then 2 of 10
    assert report.metrics["HL-min-VeryGood-mAP"] == pytest.approx(100 * (1 + 1 + (1 + 2 / 10) / 2) / 3)
    assert [row["smoothing"] for row in report.sweep] == list(range(15))
    assert report.sweep[0]["HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-mAP"]
    assert report.metrics["best-HL-min-VeryGood-mAP"] == max(row["HL-min-VeryGood-mAP"] for row in report.sweep)
    assert report.metrics["causal-HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-mAP"]  # nothing is smoothed
    assert any("tuned on the test set" in note for note in report.notes)
    assert not report.problems
    assert "causal-HL-min-Good-mAP" in report.intervals
    assert "best-HL-min-Good-mAP" not in report.intervals


def test_causal_scores_come_late(tmp_path: Path) -> None:
    """Means over [i - 2, i + 2] lift the clip before the one that is relevant, means over [i - 2, i] do not."""
    rows = [frames(scores=[0.0] * 6 + [0.8, 0.2] + [0.0] * 12)]
    report = evaluate(*files(tmp_path, rows, [query(relevant_clip_ids=[3], saliency_scores=[[4, 4, 4]])]), smoothing=2)
    # means at frames 6..9: .8/3, 1/3, 1/3, .2/3: clip 3 has 1.8/3, clip 4 1.2/3
    assert report.metrics["causal-HL-min-Good-Hit1"] == 100
    # means at 4..9: .16, .2, .2, .2, .2, .04: clips 2 (.36), 3 (.4), 4 (.24)
    assert report.metrics["HL-min-Good-Hit1"] == 100
    early = query(relevant_clip_ids=[2], saliency_scores=[[4, 4, 4]])
    report = evaluate(*files(tmp_path, rows, [early]), smoothing=2)
    assert report.metrics["HL-min-Good-mAP"] == pytest.approx(50)  # clip 2 is second, thanks to what comes after it
    assert report.metrics["causal-HL-min-Good-mAP"] == pytest.approx(10)  # clip 2 ties with all that is silent


def test_frames_without_the_score_and_the_references_own_form(tmp_path: Path) -> None:
    sparse = frames()
    for frame in sparse["debug_data"]:
        if frame["relevance_score"] == 0.0:
            del frame["relevance_score"]
    theirs = frames()
    theirs["debug_data"] = [
        {"video_time": f["time"], "relevance_score": [1 - f["relevance_score"], f["relevance_score"]]}
        for f in theirs["debug_data"]
    ]
    expected = evaluate(*files(tmp_path, [frames()], [query()])).metrics
    assert evaluate(*files(tmp_path, [sparse], [query()])).metrics == expected
    assert evaluate(*files(tmp_path, [theirs], [query()])).metrics == expected


def test_a_2997_fps_video_is_cut_by_time_or_as_the_original_does(tmp_path: Path) -> None:
    row = frames(fps=1 / 1.001)
    paths = files(tmp_path, [row], [query()])
    assert evaluate(*paths, smoothing=0).metrics["HL-min-Good-Hit1"] == 100
    paper = evaluate(*paths, profile="paper", smoothing=0)
    assert paper.metrics["HL-min-Good-Hit1"] == 0  # frame 6 is clip 6: int(2 / 1.001) = 1 frame a clip
    assert [p.what for p in paper.problems] == ["20 clip scores for a video of 10 clips"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"debug_data": []}, "no frames"),
        ({"debug_data": None}, "no frames"),
        ({"debug_data": [1, 2]}, "no object"),
        (frames(scores=[0.1, math.nan, 0.3]), "relevance scores: number 1 is nan"),
        (frames(scores=[0.1, "0.5"]), "relevance scores: number 1 is '0.5'"),
        (frames(scores=[0.1, None]), "number 1 is None"),
        ({"debug_data": [{"relevance_score": 0.5}]}, "times of frames: number 0 is None"),
        ({"debug_data": [{"time": t, "relevance_score": 0.5} for t in (0, 2, 1)]}, "times must grow"),
        ({"debug_data": [{"time": t, "relevance_score": 0.5} for t in (-1, 2)]}, "before the video"),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_frames_are_told(tmp_path: Path, change: Json, what: str, profile: Any) -> None:
    rows = [{**frames(1), **change, "question_id": 1}, frames(2)]
    report = evaluate(*files(tmp_path, rows, [query(1), query(2)]), profile=profile, smoothing=0)
    assert [problem.id for problem in report.problems] == ["1"]
    assert what in report.problems[0].what
    assert report.metrics["HL-min-Good-Hit1"] == 50


@pytest.mark.parametrize(
    ("profile", "change", "what"),
    [
        ("paper", frames(scores=[0.5]), "one frame"),
        ("paper", frames(fps=0.25), "a frame every 4 s"),
        ("fixed", frames(scores=[0.5] * 50), "is it another video?"),
        ("fixed", frames(scores=[0.0] * 6 + [0.9] * 4), "5 clip scores for a video of 10 clips"),
    ],
)
def test_frames_that_make_no_clips_of_the_video(tmp_path: Path, profile: Any, change: Json, what: str) -> None:
    report = evaluate(*files(tmp_path, [{**change, "question_id": 1}], [query()]), profile=profile)
    assert what in report.problems[0].what


def test_smoothing_is_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="smoothing is -1"):
        evaluate(*files(tmp_path, [frames()], [query()]), smoothing=-1)


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_frame_scores_against_one_query_at_a_time(
    tmp_path: Path, profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    gold, rows = [], []
    for qid in range(12):
        clips = int(rng.integers(5, 30))
        relevant = sorted(rng.choice(clips, size=int(rng.integers(1, 5)), replace=False).tolist())
        ratings = rng.integers(0, 5, size=(len(relevant), 3)).tolist()
        gold.append(query(qid, duration=2 * clips, relevant_clip_ids=relevant, saliency_scores=ratings))
        spans = [[2 * clip, 2 * clip + 2] for clip in relevant]
        rows.append(made_up_frames(qid, 2 * clips - qid % 3, (1, 2, 4)[qid % 3], spans, rng))
    paths = files(tmp_path, rows, gold)
    report = evaluate(*paths, profile=profile)
    form = clip_scores_by_time if profile == "fixed" else clip_scores
    for w in range(15):
        slow = [highlight_scores_slowly(form(row, w, w), of) for row, of in zip(rows, gold, strict=True)]
        for name in slow[0]:
            assert report.sweep[w][name] == pytest.approx(100 * np.mean([one[name] for one in slow]), abs=1e-10)
    for prefix, after in (("", 4), ("causal-", 0)):
        for item, row, of in zip(report.items, rows, gold, strict=True):
            for name, value in highlight_scores_slowly(form(row, 4, after), of).items():
                assert item[prefix + name] == pytest.approx(100 * value, abs=1e-10)


# The original's numbers


@pytest.fixture(scope="module")
def sample() -> Json:
    expected: Json = json.loads((FOLDER / "sample_val_expected.json").read_text())
    return expected


@needs_shared
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_the_sample_submission(sample: Json, profile: Any) -> None:
    report = evaluate(FOLDER / "sample_val_preds.jsonl", GOLD, profile=profile)
    expected = sample["recomputed_8_decimals"]["brief"]
    assert report.metrics == pytest.approx(expected, abs=1e-8)
    assert list(report.metrics) == list(expected)
    assert {name: round(value, 2) for name, value in report.metrics.items()} == sample["published_by_repo"]["brief"]
    assert len(report.items) == 1550
    short = [p for p in report.problems if "clip scores" in p.what]
    assert len(short) == 13
    assert all(low < report.metrics[name] < high for name, (low, high) in report.intervals.items())


@needs_shared
def test_the_sample_by_range_and_threshold(sample: Json) -> None:
    queries = read_queries(GOLD)
    rows = {
        str(row["qid"]): row for row in map(json.loads, (FOLDER / "sample_val_preds.jsonl").read_text().splitlines())
    }
    gold = [query.windows or () for query in queries.values()]
    scores = moment_scores(gold, [[tuple(w) for w in rows[key]["pred_relevant_windows"]] for key in queries])
    for decimals, name in ((8, "recomputed_8_decimals"), (2, "published_by_repo")):
        for length, tables in scores.items():
            expected = sample[name][length]
            aps = 100 * np.nanmean(tables["AP"], axis=0)
            assert dict(zip(map(str, IOU_THRESHOLDS), aps, strict=True)) | {"average": aps.mean()} == pytest.approx(
                expected["MR-mAP"], abs=0.5001 * 10**-decimals
            )
            first = tables["IoU"][~np.isnan(tables["IoU"])]
            recalls = {str(t): 100 * float(np.mean(first >= t)) for t in IOU_THRESHOLDS}
            assert recalls == pytest.approx(expected["MR-R1"], abs=0.5001 * 10**-decimals)


@needs_shared
def test_the_sample_query_by_query(sample: Json) -> None:
    report = evaluate(FOLDER / "sample_val_preds.jsonl", GOLD)
    items = {str(item["id"]): item for item in report.items}
    for level, queries in sample["per_query_first60_of_pred_file"].items():
        assert len(queries) == 60
        for key, one in queries.items():
            assert items[key][f"HL-min-{level}-mAP"] == pytest.approx(100 * np.mean(one["ap"]), abs=1e-6)
            assert items[key][f"HL-min-{level}-Hit1"] == 100 * one["hit"]


@needs_shared
def test_the_sample_annotator_by_annotator(sample: Json) -> None:
    queries = read_queries(GOLD)
    rows = {
        str(row["qid"]): row for row in map(json.loads, (FOLDER / "sample_val_preds.jsonl").read_text().splitlines())
    }
    for level, least in (("Fair", 2), ("Good", 3), ("VeryGood", 4)):
        for key, one in sample["per_query_first60_of_pred_file"][level].items():
            rated = queries[key].rated
            assert rated is not None
            truth = Ratings.of([rated])
            scores = (rows[key]["pred_saliency_scores"] + [0.0] * rated.clips)[: rated.clips]
            assert average_precision(np.array([scores]), truth.ratings >= least)[0] == pytest.approx(
                one["ap"], abs=1e-8
            )


@needs_shared
def test_timechats_predictions() -> None:
    expected = json.loads((FOLDER / "timechat_val_expected.json").read_text())["expected"]["brief"]
    paper = evaluate(FOLDER / "timechat_val_preds.jsonl", GOLD, profile="paper")
    assert paper.metrics == pytest.approx(expected, abs=1e-8)
    assert len(paper.items) == 1463
    fixed = evaluate(FOLDER / "timechat_val_preds.jsonl", GOLD)
    for name, value in expected.items():
        assert fixed.metrics[name] == pytest.approx(value * 1463 / 1550, abs=1e-7)  # the other 87 count 0
    assert len(fixed.problems) == 87


@needs_shared
def test_made_up_frames_of_real_queries_against_one_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    gold = [json.loads(line) for line in GOLD.read_text().splitlines()[:6]]
    rows = [made_up_frames(of["qid"], of["duration"], 1, of["relevant_windows"], rng) for of in gold]
    report = evaluate(files(tmp_path, rows, gold)[0], GOLD, profile="paper")
    for w in (0, 7, 14):
        slow = [highlight_scores_slowly(clip_scores(row, w, w), of) for row, of in zip(rows, gold, strict=True)]
        for name in slow[0]:
            assert report.sweep[w][name] == pytest.approx(100 * np.mean([one[name] for one in slow]), abs=1e-10)
