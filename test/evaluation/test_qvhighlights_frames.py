"""QVHighlights from frame scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_by_one import clip_scores, clip_scores_by_time, synthetic_frames
from one_by_one import highlight_scores as highlight_scores_one_by_one
from qvhighlights_cases import files, frames, query

from mmduet.errors import OptionError
from mmduet.evaluation.benchmarks.qvhighlights import evaluate

Json = dict[str, Any]


def test_frame_scores_by_hand(tmp_path: Path) -> None:
    # At 1 fps frames 6 and 7 make clip 3: clip scores 0 0 0 1.8 0 ... Annotators' VeryGood clips: 3; 3; 3 and 4.
    report = evaluate(*files(tmp_path, [frames()], [query()]), smoothing=0)
    assert report.metrics["HL-min-VeryGood-Hit1"] == 100
    # For the third, clip 3 is found first, clip 4 in the tie of all the others: 1, then 2 of 10
    assert report.metrics["HL-min-VeryGood-mAP"] == pytest.approx(100 * (1 + 1 + (1 + 2 / 10) / 2) / 3)
    assert [row["smoothing"] for row in report.sweep] == list(range(15))
    assert report.sweep[0]["HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-mAP"]
    assert report.metrics["best-HL-min-VeryGood-mAP"] == max(row["HL-min-VeryGood-mAP"] for row in report.sweep)
    assert report.metrics["causal-HL-min-VeryGood-mAP"] == report.metrics["HL-min-VeryGood-mAP"]  # smoothing is 0
    assert any("tuned on the test set" in note for note in report.notes)
    assert not report.problems
    assert "causal-HL-min-Good-mAP" in report.intervals
    assert "best-HL-min-Good-mAP" not in report.intervals


def test_causal_scores_use_no_later_frames(tmp_path: Path) -> None:
    """Means over [i - 2, i + 2] lift the clip before the one that is relevant, means over [i - 2, i] do not."""
    rows = [frames(scores=[0.0] * 6 + [0.8, 0.2] + [0.0] * 12)]
    report = evaluate(*files(tmp_path, rows, [query(relevant_clip_ids=[3], saliency_scores=[[4, 4, 4]])]), smoothing=2)
    # means at frames 6..9: .8/3, 1/3, 1/3, .2/3: clip 3 has 1.8/3, clip 4 1.2/3
    assert report.metrics["causal-HL-min-Good-Hit1"] == 100
    # means at 4..9: .16, .2, .2, .2, .2, .04: clips 2 (.36), 3 (.4), 4 (.24)
    assert report.metrics["HL-min-Good-Hit1"] == 100
    early = query(relevant_clip_ids=[2], saliency_scores=[[4, 4, 4]])
    report = evaluate(*files(tmp_path, rows, [early]), smoothing=2)
    assert report.metrics["HL-min-Good-mAP"] == pytest.approx(50)  # clip 2 is second because of later frames
    assert report.metrics["causal-HL-min-Good-mAP"] == pytest.approx(10)  # clip 2 ties with all clips of score 0


def test_missing_scores_and_the_form_of_mmduet_are_read(tmp_path: Path) -> None:
    sparse = frames()
    for frame in sparse["debug_data"]:
        if frame["relevance_score"] == 0.0:
            del frame["relevance_score"]
    mmduet_form = frames()
    mmduet_form["debug_data"] = [
        {"video_time": f["time"], "relevance_score": [1 - f["relevance_score"], f["relevance_score"]]}
        for f in mmduet_form["debug_data"]
    ]
    expected = evaluate(*files(tmp_path, [frames()], [query()])).metrics
    assert evaluate(*files(tmp_path, [sparse], [query()])).metrics == expected
    assert evaluate(*files(tmp_path, [mmduet_form], [query()])).metrics == expected


def test_clips_of_a_29_97_fps_video_in_both_profiles(tmp_path: Path) -> None:
    row = frames(fps=1 / 1.001)
    paths = files(tmp_path, [row], [query()])
    assert evaluate(*paths, smoothing=0).metrics["HL-min-Good-Hit1"] == 100
    paper = evaluate(*paths, profile="paper", smoothing=0)
    assert paper.metrics["HL-min-Good-Hit1"] == 0  # frame 6 is clip 6: int(2 / 1.001) = 1 frame a clip
    assert [p.message for p in paper.problems] == ["has 20 clip scores for a video of 10 clips"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"debug_data": []}, "debug_data has no frames"),
        ({"debug_data": None}, "debug_data is None, expected a list"),
        ({"debug_data": [1, 2]}, "debug_data, number 0, is 1, expected an object"),
        (frames(scores=[0.1, math.nan, 0.3]), "relevance_score, number 1, is nan, expected a finite number"),
        (frames(scores=[0.1, "0.5"]), "relevance_score, number 1, is '0.5', expected a finite number"),
        (frames(scores=[0.1, None]), "relevance_score, number 1, is None, expected a finite number"),
        ({"debug_data": [{"relevance_score": 0.5}]}, "times of frames, number 0, is None, expected a finite number"),
        (
            {"debug_data": [{"time": t, "relevance_score": 0.5} for t in (0, 2, 1)]},
            "a frame at 1.0 s follows one at 2.0 s; times must increase",
        ),
        (
            {"debug_data": [{"time": t, "relevance_score": 0.5} for t in (-1, 2)]},
            "the first frame is at -1.0 s, expected a time from 0 up",
        ),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_frames_are_reported(tmp_path: Path, change: Json, message: str, profile: Any) -> None:
    rows = [{**frames(1), **change, "question_id": 1}, frames(2)]
    report = evaluate(*files(tmp_path, rows, [query(1), query(2)]), profile=profile, smoothing=0)
    assert [problem.id for problem in report.problems] == ["1"]
    assert message in report.problems[0].message
    assert report.metrics["HL-min-Good-Hit1"] == 50


@pytest.mark.parametrize(
    ("profile", "change", "message"),
    [
        ("paper", frames(scores=[0.5]), "there is only one frame, so the interval between frames is unknown"),
        ("paper", frames(fps=0.25), "a frame every 4 s is too few, expected at least one per clip of 2 s"),
        (
            "fixed",
            frames(scores=[0.5] * 50),
            "a frame at 49 s exceeds the video of 20 s; check that it is the same video",
        ),
        ("fixed", frames(scores=[0.0] * 6 + [0.9] * 4), "has 5 clip scores for a video of 10 clips"),
    ],
)
def test_frames_that_do_not_fit_the_video_are_reported(
    tmp_path: Path, profile: Any, change: Json, message: str
) -> None:
    report = evaluate(*files(tmp_path, [{**change, "question_id": 1}], [query()]), profile=profile)
    assert message in report.problems[0].message


def test_negative_smoothing_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="smoothing must be at least 0 frames, got -1"):
        evaluate(*files(tmp_path, [frames()], [query()]), smoothing=-1)


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_frame_scores_equal_one_query_at_a_time(tmp_path: Path, profile: Any) -> None:
    rng = np.random.default_rng(3)
    gold, rows = [], []
    for qid in range(12):
        clips = int(rng.integers(5, 30))
        relevant = sorted(rng.choice(clips, size=int(rng.integers(1, 5)), replace=False).tolist())
        ratings = rng.integers(0, 5, size=(len(relevant), 3)).tolist()
        gold.append(query(qid, duration=2 * clips, relevant_clip_ids=relevant, saliency_scores=ratings))
        spans = [[2 * clip, 2 * clip + 2] for clip in relevant]
        rows.append(synthetic_frames(qid, 2 * clips - qid % 3, (1, 2, 4)[qid % 3], spans, rng))
    paths = files(tmp_path, rows, gold)
    report = evaluate(*paths, profile=profile)
    form = clip_scores_by_time if profile == "fixed" else clip_scores
    for w in range(15):
        slow = [highlight_scores_one_by_one(form(row, w, w), of) for row, of in zip(rows, gold, strict=True)]
        for name in slow[0]:
            assert report.sweep[w][name] == pytest.approx(100 * np.mean([one[name] for one in slow]), abs=1e-10)
    for prefix, after in (("", 4), ("causal-", 0)):
        for item, row, of in zip(report.items, rows, gold, strict=True):
            for name, value in highlight_scores_one_by_one(form(row, 4, after), of).items():
                assert item[prefix + name] == pytest.approx(100 * value, abs=1e-10)
