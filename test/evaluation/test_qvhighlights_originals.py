"""QVHighlights: numbers of the original evaluators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_by_one import clip_scores, synthetic_frames
from one_by_one import highlight_scores as highlight_scores_one_by_one
from originals import SHARED, needs
from qvhighlights_cases import files

from mmduet.annotations.qvhighlights_files import read_queries
from mmduet.evaluation.benchmarks.qvhighlights import evaluate
from mmduet.metrics.highlights import RatingsBatch, average_precision
from mmduet.metrics.moments import IOU_THRESHOLDS, moment_scores

FOLDER = SHARED / "qvhighlights"
GOLD = FOLDER / "highlight_val_release.jsonl"
needs_shared = needs(FOLDER)

Json = dict[str, Any]


@pytest.fixture(scope="module")
def sample() -> Json:
    expected: Json = json.loads((FOLDER / "sample_val_expected.json").read_text())
    return expected


@needs_shared
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_metrics_of_the_sample_submission(sample: Json, profile: Any) -> None:
    report = evaluate(FOLDER / "sample_val_preds.jsonl", GOLD, profile=profile)
    expected = sample["recomputed_8_decimals"]["brief"]
    assert report.metrics == pytest.approx(expected, abs=1e-8)
    assert list(report.metrics) == list(expected)
    assert {name: round(value, 2) for name, value in report.metrics.items()} == sample["published_by_repo"]["brief"]
    assert len(report.items) == 1550
    short = [p for p in report.problems if "clip scores" in p.message]
    assert len(short) == 13
    assert all(low < report.metrics[name] < high for name, (low, high) in report.intervals.items())


@needs_shared
def test_moments_of_the_sample_by_range_and_threshold(sample: Json) -> None:
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
def test_the_sample_by_query(sample: Json) -> None:
    report = evaluate(FOLDER / "sample_val_preds.jsonl", GOLD)
    items = {str(item["id"]): item for item in report.items}
    for level, queries in sample["per_query_first60_of_pred_file"].items():
        assert len(queries) == 60
        for key, one in queries.items():
            assert items[key][f"HL-min-{level}-mAP"] == pytest.approx(100 * np.mean(one["ap"]), abs=1e-6)
            assert items[key][f"HL-min-{level}-Hit1"] == 100 * one["hit"]


@needs_shared
def test_the_sample_by_annotator(sample: Json) -> None:
    queries = read_queries(GOLD)
    rows = {
        str(row["qid"]): row for row in map(json.loads, (FOLDER / "sample_val_preds.jsonl").read_text().splitlines())
    }
    for level, least in (("Fair", 2), ("Good", 3), ("VeryGood", 4)):
        for key, one in sample["per_query_first60_of_pred_file"][level].items():
            rated = queries[key].ratings
            assert rated is not None
            truth = RatingsBatch.from_videos([rated])
            scores = (rows[key]["pred_saliency_scores"] + [0.0] * rated.clips)[: rated.clips]
            assert average_precision(np.array([scores]), truth.ratings >= least)[0] == pytest.approx(
                one["ap"], abs=1e-8
            )


@needs_shared
def test_metrics_of_the_predictions_of_timechat() -> None:
    expected = json.loads((FOLDER / "timechat_val_expected.json").read_text())["expected"]["brief"]
    paper = evaluate(FOLDER / "timechat_val_preds.jsonl", GOLD, profile="paper")
    assert paper.metrics == pytest.approx(expected, abs=1e-8)
    assert len(paper.items) == 1463
    fixed = evaluate(FOLDER / "timechat_val_preds.jsonl", GOLD)
    for name, value in expected.items():
        assert fixed.metrics[name] == pytest.approx(value * 1463 / 1550, abs=1e-7)  # the other 87 count 0
    assert len(fixed.problems) == 87


@needs_shared
def test_synthetic_frames_of_real_queries_equal_one_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    gold = [json.loads(line) for line in GOLD.read_text().splitlines()[:6]]
    rows = [synthetic_frames(of["qid"], of["duration"], 1, of["relevant_windows"], rng) for of in gold]
    report = evaluate(files(tmp_path, rows, gold)[0], GOLD, profile="paper")
    for w in (0, 7, 14):
        slow = [highlight_scores_one_by_one(clip_scores(row, w, w), of) for row, of in zip(rows, gold, strict=True)]
        for name in slow[0]:
            assert report.sweep[w][name] == pytest.approx(100 * np.mean([one[name] for one in slow]), abs=1e-10)
