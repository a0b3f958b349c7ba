"""Temporal grounding: results of one query, setting and frame at a time, and numbers of the original evaluators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grounding_cases import files, text
from one_by_one import grounding_ious, synthetic_frames
from originals import SHARED, needs

from mmduet.evaluation.benchmarks.grounding import evaluate
from mmduet.metrics.grounding import (
    sweep_thresholds,
)

FOLDER = SHARED / "temporal_grounding"
needs_shared = needs(FOLDER)

Json = dict[str, Any]

RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7")


def check_against_one_at_a_time(paths: tuple[Path, Path], rows: list[Json], spans: list[Any], profile: Any) -> None:
    """Compare every query's IoU exactly, and the means of the sweep."""
    report = evaluate(*paths, profile=profile)
    swept = [[grounding_ious(row, of, w, w, False) for row, of in zip(rows, spans, strict=True)] for w in range(15)]
    causal = [grounding_ious(row, of, 4, 0, True) for row, of in zip(rows, spans, strict=True)]
    for q, item in enumerate(report.items):
        assert item["mIoU"] == 100 * swept[4][q][-1]
        assert item["oracle-threshold-mIoU"] == 100 * max(swept[4][q][:-1])
        assert item["causal-mIoU"] == 100 * causal[q][-1]
    for row in report.sweep:
        k = sweep_thresholds().tolist().index(row["threshold"])
        ious = np.array([one[k] for one in swept[row["smoothing"]]])
        assert row["mIoU"] == 100 * np.mean(ious)
        assert [row[name] for name in RECALLS] == [100 * np.mean(ious >= t) for t in (0.3, 0.5, 0.7)]
    for name in ("mIoU", *RECALLS):
        assert report.metrics[f"best-{name}"] == max(row[name] for row in report.sweep)


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_synthetic_frames_equal_one_at_a_time(tmp_path: Path, profile: Any) -> None:
    rng = np.random.default_rng(1)
    spans = [[sorted(rng.uniform(0, 15, size=2).round(1).tolist()) for _ in range(q % 3 + 1)] for q in range(30)]
    rows = [synthetic_frames(q, rng.uniform(3, 20), 2, of, rng) for q, of in enumerate(spans)]
    rows = [row for row in rows if len({f["relevance_score"] for f in row["debug_data"]}) > 1]  # constant ones: above
    spans = [spans[row["question_id"]] for row in rows]
    annotations = [
        {"question_id": str(row["question_id"]), "timestamps": of} for row, of in zip(rows, spans, strict=True)
    ]
    check_against_one_at_a_time(files(tmp_path, rows, annotations), rows, spans, profile)


@needs_shared
def test_synthetic_frames_of_real_gold_spans_equal_one_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    annotated = json.loads((FOLDER / "mmduet_frames_gold.json").read_text())
    spans = [of["timestamps"] for of in annotated]
    rows = [synthetic_frames(of["question_id"], 35.0, 2, of["timestamps"], rng) for of in annotated]
    path, _ = files(tmp_path, rows, annotated)
    check_against_one_at_a_time((path, FOLDER / "mmduet_frames_gold.json"), rows, spans, "paper")


@needs_shared
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_metrics_of_the_example_of_timechat(profile: Any) -> None:
    (expected,) = json.loads((FOLDER / "timechat_eval_expected.json").read_text()).values()
    paths = FOLDER / "timechat_example_preds.json", FOLDER / "charades_test_gt.json"
    report = evaluate(*paths, profile=profile, sample=True)
    recalls = {t: report.metrics[f"R1@{t}"] for t in expected["R1@IoU"]}
    assert recalls == pytest.approx(expected["R1@IoU"], abs=1e-9)
    assert report.metrics["mIoU"] == pytest.approx(expected["mIoU_with_same_iou"], abs=1e-9)
    assert len(report.items) == expected["n"] == 500
    assert any("280 of 500" in note for note in report.notes)
    whole = evaluate(*paths, profile=profile)
    assert whole.metrics["mIoU"] == pytest.approx(expected["mIoU_with_same_iou"] * 500 / 3720, abs=1e-9)
    assert len(whole.problems) == 3220


@needs_shared
def test_text_answers_with_real_gold_spans(tmp_path: Path) -> None:
    annotated = json.loads((FOLDER / "mmduet_text_gold.json").read_text())
    rows = [text(of["question_id"], f"It is {of['timestamps'][0][0]} - {of['timestamps'][0][1]}.") for of in annotated]
    path, _ = files(tmp_path, rows, annotated)
    assert evaluate(path, FOLDER / "mmduet_text_gold.json").metrics["mIoU"] == 100
    assert len(annotated) == 60
