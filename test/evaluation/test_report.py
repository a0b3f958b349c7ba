"""The JSON form of reports and of the results of runs: names are part of the file formats."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mmduet.annotations.problems import Problem
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.evaluation.runs.quantization_drift import QuantizationDrift
from mmduet.evaluation.runs.scene_scores import SceneScores
from mmduet.evaluation.runs.window_ablation import WindowResult

SCENE_SCORES = SceneScores(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 9.0)
SCENE_SCORES_DICT: dict[str, Any] = {
    "speak_f1": 0.1, "speak_precision": 0.2, "speak_recall": 0.3, "caption_exact": 0.4, "repeat_rate": 0.5, "qa_f1": 0.6,
    "grounding_r1_50": 0.7, "highlight_hit1": 0.8, "x_realtime": 9.0,
}  # fmt: skip


def test_report_to_dict_has_the_names_of_the_file_format() -> None:
    report = Report(
        "grounding",
        {"mIoU": math.nan, "n": 3},
        [{"id": 1, "mIoU": math.inf}],
        [{"smoothing": 0, "mIoU": 1.0}],
        [Problem("1", "has no prediction", "IoU 0")],
        ["a note"],
        "paper",
        {"mIoU": (1.0, 2.0)},
    )
    expected: dict[str, Any] = {
        "benchmark": "grounding",
        "profile": "paper",
        "metrics": {"mIoU": None, "n": 3},
        "intervals": {"mIoU": [1.0, 2.0]},
        "sweep": [{"smoothing": 0, "mIoU": 1.0}],
        "problems": [{"id": "1", "what": "has no prediction", "counted": "IoU 0"}],
        "notes": ["a note"],
    }
    assert report.to_dict() == expected
    assert report.to_dict(per_item=True) == {**expected, "items": [{"id": 1, "mIoU": None}]}


def test_check_no_problems_lists_the_first_ones() -> None:
    check_no_problems([])
    problems = [Problem(f"q{i}", "has no prediction", "0") for i in range(12)]
    with pytest.raises(AnnotationError, match="12 predictions have problems") as caught:
        check_no_problems(problems)
    assert "q9: has no prediction\n  and 2 more" in str(caught.value)


def test_results_of_runs_to_dict_have_the_names_of_the_file_format() -> None:
    assert SCENE_SCORES.to_dict() == SCENE_SCORES_DICT
    assert WindowResult(8, SCENE_SCORES, 1024).to_dict() == {"window": 8, "stream_bytes": 1024, **SCENE_SCORES_DICT}
    assert QuantizationDrift(10, 2, 0.1, 0.2, 0.3, 0.4, 1, 0).to_dict() == {
        "frames": 10, "spoken": 2, "informative_mean": 0.1, "informative_max": 0.2, "relevance_mean": 0.3,
        "relevance_max": 0.4, "decisions_changed": 1, "replies_changed": 0,
    }  # fmt: skip
