"""QVHighlights from frame scores, as a stream gives them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_by_one import clip_scores, clip_scores_by_time, made_up_frames
from one_by_one import highlight_scores as highlight_scores_slowly
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
    assert [p.message for p in paper.problems] == ["has 20 clip scores for a video of 10 clips"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"debug_data": []}, "debug_data "),
        ({"debug_data": None}, "debug_data "),
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
def test_malformed_frames_are_reported(tmp_path: Path, change: Json, what: str, profile: Any) -> None:
    rows = [{**frames(1), **change, "question_id": 1}, frames(2)]
    report = evaluate(*files(tmp_path, rows, [query(1), query(2)]), profile=profile, smoothing=0)
    assert [problem.id for problem in report.problems] == ["1"]
    assert what in report.problems[0].message
    assert report.metrics["HL-min-Good-Hit1"] == 50


@pytest.mark.parametrize(
    ("profile", "change", "what"),
    [
        ("paper", frames(scores=[0.5]), "one frame"),
        ("paper", frames(fps=0.25), "a frame every 4 s"),
        (
            "fixed",
            frames(scores=[0.5] * 50),
            "a frame at 49 s exceeds the video of 20 s; check that it is the same video",
        ),
        ("fixed", frames(scores=[0.0] * 6 + [0.9] * 4), "5 clip scores for a video of 10 clips"),
    ],
)
def test_frames_that_make_no_clips_of_the_video(tmp_path: Path, profile: Any, change: Json, what: str) -> None:
    report = evaluate(*files(tmp_path, [{**change, "question_id": 1}], [query()]), profile=profile)
    assert what in report.problems[0].message


def test_smoothing_is_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="smoothing must be at least 0 frames, got -1"):
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
