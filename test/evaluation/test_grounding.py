"""Temporal grounding: by hand, against the original evaluator's numbers, one by one, and what is malformed."""

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
from one_by_one import frame_iou, grounding_ious, made_up_frames

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.grounding import evaluate
from mmduet.evaluation.metrics.grounding import (
    frame_ious,
    frames_in_spans,
    segment_iou,
    summary,
    sweep_thresholds,
    text_iou,
    text_span,
)
from mmduet.evaluation.metrics.spans import iou

Json = dict[str, Any]

SHARED = Path(os.environ.get("MMDUET_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
FOLDER = SHARED / "evaluators" / "temporal_grounding"
needs_shared = pytest.mark.skipif(not FOLDER.is_dir(), reason="the reference data is not here")
RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7")


# By hand


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ((0.0, 10.0), (5.0, 20.0), 5 / 20),
        ((5.0, 20.0), (5.0, 20.0), 1.0),
        ((0.0, 5.0), (5.0, 20.0), 0.0),
        ((0.0, 4.0), (5.0, 20.0), 0.0),
        ((20.0, 5.0), (5.0, 20.0), 0.0),  # backwards
        ((7.0, 7.0), (5.0, 20.0), 0.0),
        ((5.0, 5.0), (5.0, 5.0), 0.0),
        (None, (5.0, 20.0), 0.0),
    ],
)
def test_segment_iou(predicted: tuple[float, float] | None, gold: tuple[float, float], expected: float) -> None:
    assert segment_iou(predicted, gold) == pytest.approx(expected)


spans = st.tuples(st.floats(0, 100), st.floats(0.1, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(spans, spans)
def test_the_hull_is_the_union_of_spans_that_meet(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert segment_iou(a, b) == pytest.approx(iou(a, b), abs=1e-9)
    assert text_iou(a, b) >= segment_iou(a, b) - 1e-12  # +1 on both sides of the fraction


@pytest.mark.parametrize(
    ("answer", "duration", "expected"),
    [
        ("It happens at 3.5 - 12 seconds.", None, (3.5, 12.0)),
        ("From 10 to 50.", 30.0, (3.0, 15.0)),
        ("FROM 10 TO 50", 0.0, (0.0, 0.0)),
        ("from 3 until 12", 30.0, (3.0, 12.0)),
        ("From 10 to 50.", None, None),
        ("at 3", 30.0, None),
        ("3, 4 and 5", 30.0, None),
        ("never", 30.0, None),
        ("", None, None),
        ("1 - " + "9" * 400, 30.0, None),  # beyond floats
    ],
)
def test_text_span(answer: str, duration: float | None, expected: tuple[float, float] | None) -> None:
    assert text_span(answer, duration) == expected


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ((0.0, 9.0), (5.0, 19.0), 5 / 20),  # seconds 5..9 of 0..19
        ((5.0, 5.0), (5.0, 5.0), 1.0),
        ((0.0, 4.5), (5.0, 9.0), 0.5 / 10),
        ((0.0, 4.0), (5.0, 9.0), 0.0),
        ((9.0, 0.0), (0.0, 9.0), 0.0),
    ],
)
def test_text_iou(predicted: tuple[float, float], gold: tuple[float, float], expected: float) -> None:
    assert text_iou(predicted, gold) == pytest.approx(expected)


def test_frames_by_hand() -> None:
    times = np.array([[0.0, 0.5, 1.0, 1.5, 2.0]])
    gold = frames_in_spans(times, [[(0.5, 1.0), (2.0, 9.0)]])
    assert gold.tolist() == [[False, True, True, False, True]]  # both ends inclusive
    scores = np.array([[0.0, 1.0, 0.4, 0.6, np.nan]])
    everything = np.ones_like(gold)
    # >= 0.4: frames 1 2 3 against 1 2 4; >= 0.5: 1 3; >= 1: 1
    ious = frame_ious(scores, gold, everything, np.array([0.4, 0.5, 1.0]))
    assert ious.tolist() == [[2 / 4, 1 / 4, 1 / 3]]
    last_is_padding = np.array([[True, True, True, True, False]])
    assert frame_ious(scores, gold, last_is_padding, np.array([0.4])).tolist() == [[2 / 3]]
    assert frame_ious(scores * np.nan, gold & False, everything, np.array([0.4])).tolist() == [[0.0]]  # empty union


def test_thresholds_have_numpys_float_error() -> None:
    thresholds = sweep_thresholds()
    assert len(thresholds) == 21
    assert thresholds[0] == 0.3
    assert thresholds[10] > 0.5
    half = np.array([[0.5]])
    reached = frame_ious(half, half > 0, half > 0, thresholds)[0]
    assert reached.tolist() == [1.0] * 10 + [0.0] * 11  # exactly one half does not reach "0.5"


def test_summary() -> None:
    assert summary(np.array([0.0, 0.3, 0.5, 0.8])) == pytest.approx(
        {"mIoU": 40, "R1@0.3": 75, "R1@0.5": 50, "R1@0.7": 25}
    )


score = st.integers(0, 10).map(lambda tenths: tenths / 10) | st.just(math.nan)


@given(st.lists(st.tuples(score, st.booleans()), min_size=1, max_size=20), st.integers(0, 3))
def test_all_thresholds_at_once_equal_one_at_a_time(frames: list[tuple[float, bool]], padding: int) -> None:
    thresholds = np.array([0.1, 0.2, 0.5, 0.7000000000000001, 1.0])
    scores, gold = [s for s, _ in frames], [g for _, g in frames]
    real = np.array([[True] * len(frames) + [False] * padding])
    padded_scores, padded_gold = np.array([[*scores, *[1.0] * padding]]), np.array([[*gold, *[True] * padding]])
    fast = frame_ious(padded_scores, padded_gold, real, thresholds)
    assert fast[0].tolist() == [frame_iou(scores, gold, t) for t in thresholds]


# Files


def charades(*spans: Sequence[object]) -> Json:
    return {
        "annotations": [{"image_id": "v.mp4", "caption": "c", "timestamp": s, "id": i} for i, s in enumerate(spans)]
    }


def gold(*rows: Sequence[object]) -> list[Json]:
    return [{"question_id": str(i), "video": "v.mp4", "timestamps": spans} for i, spans in enumerate(rows)]


def segments(*rows: object) -> Json:
    return {str(i): {"timestamp": row} for i, row in enumerate(rows)}


def frames(qid: object, scores: Sequence[object], interval: float = 1.0) -> Json:
    data = [{"time": i * interval, "informative_score": 0.1, "relevance_score": s} for i, s in enumerate(scores)]
    return {"question_id": qid, "video_duration": 20.0, "model_response_list": [], "debug_data": data}


def text(qid: object, *answers: object, duration: object = 20.0) -> Json:
    turns = [{"time": 0.0, "content": "when 7?", "role": "user"}]
    turns += [{"time": 9.0, "content": answer, "role": "assistant"} for answer in answers]
    return {"question_id": qid, "video_duration": duration, "model_response_list": turns, "debug_data": []}


def files(folder: Path, predictions: object, annotations: object) -> tuple[Path, Path]:
    """A dict or a text as it is, a list one object a line; annotations as JSON."""
    paths = folder / "predictions.jsonl", folder / "gold.json"
    if isinstance(predictions, list):
        paths[0].write_text("".join(json.dumps(row) + "\n" for row in predictions))
    else:
        paths[0].write_text(predictions if isinstance(predictions, str) else json.dumps(predictions))
    paths[1].write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))
    return paths


def test_segments(tmp_path: Path) -> None:
    predictions = segments([[0, 10]], [], [[0.0, 8.0], [0.0, 10.0]])
    report = evaluate(*files(tmp_path, predictions, charades([0, 10], [0, 10], [0, 10])))
    assert report.metrics == pytest.approx({"mIoU": 60, "R1@0.3": 200 / 3, "R1@0.5": 200 / 3, "R1@0.7": 200 / 3})
    assert [item["mIoU"] for item in report.items] == pytest.approx([100, 0, 80])  # the first segment alone
    assert [item["id"] for item in report.items] == [0, 1, 2]
    assert report.intervals["mIoU"][0] < 60 < report.intervals["mIoU"][1]
    assert not report.problems
    assert any("1 of 3 predictions hold no segment" in note for note in report.notes)


def test_segments_take_the_best_of_several_gold_spans(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, segments([[10, 20]]), gold([[0, 5], [10, 20]])))
    assert report.metrics["mIoU"] == 100


@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_missing_segments_are_misses_unless_a_sample_is_scored(tmp_path: Path, profile: Any) -> None:
    paths = files(tmp_path, segments([[0, 10]]), charades([0, 10], [0, 10]))
    whole, sample = evaluate(*paths, profile=profile), evaluate(*paths, profile=profile, sample=True)
    assert (whole.metrics["mIoU"], sample.metrics["mIoU"]) == (50, 100)
    assert [str(p) for p in whole.problems] == ["1: no prediction (counted as IoU 0)"]
    assert not sample.problems
    assert sample.notes[0] == "Only the predicted queries count: 1 of 2."
    with pytest.raises(AnnotationError, match="1: no prediction"):
        evaluate(*paths, profile=profile, strict=True)


def test_missing_frames_count_zero_or_not_at_all(tmp_path: Path) -> None:
    paths = files(tmp_path, [frames("0", [0, 1, 1, 0]), frames("9", [0, 1])], gold([[1, 2]], [[1, 2]]))
    fixed, paper = evaluate(*paths, smoothing=0), evaluate(*paths, smoothing=0, profile="paper")
    assert (fixed.metrics["mIoU"], paper.metrics["mIoU"]) == (50, 100)
    assert [str(p) for p in fixed.problems] == [
        "1: no prediction (counted as IoU 0)",
        "9: is not annotated (counted as left out)",
    ]
    assert paper.problems[0].counted == "left out, as in the original"


def test_frames_by_file(tmp_path: Path) -> None:
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


def test_the_oracle_takes_each_query_at_its_own_threshold(tmp_path: Path) -> None:
    # smoothed by nothing; query 0 needs a threshold up to .4, query 1 one above .4
    rows = [frames("0", [0.0, 0.4, 1.0, 0.0]), frames("1", [0.0, 0.4, 1.0, 0.0])]
    report = evaluate(*files(tmp_path, rows, gold([[1, 2]], [[2, 2]])), smoothing=0)
    assert report.metrics["oracle-threshold-mIoU"] == 100
    assert max(row["mIoU"] for row in report.sweep if row["smoothing"] == 0) == 75
    assert report.metrics["mIoU"] == 75


def test_causal_scores_do_not_depend_on_what_comes(tmp_path: Path) -> None:
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


def test_text(tmp_path: Path) -> None:
    rows = [text("0", "0 - 9 seconds"), text("1", "from 0", "to 50"), text("2", "no idea"), text("3")]
    paths = files(tmp_path, rows, gold([[0, 9], [30, 40]], [[0, 10]], [[0, 9]], [[0, 9]]))
    fixed, paper = evaluate(*paths), evaluate(*paths, profile="paper")
    assert fixed.metrics["mIoU"] == pytest.approx((100 + 100 + 0 + 0) / 4)
    assert paper.metrics["mIoU"] == pytest.approx(100)  # the others are dropped
    assert [p.counted for p in fixed.problems] == ["IoU 0"] * 2
    assert [str(p) for p in paper.problems] == [
        "2: the answer 'no idea' does not hold exactly two numbers (counted as dropped, as in the original)",
        "3: the answer '' does not hold exactly two numbers (counted as dropped, as in the original)",
    ]
    assert "mIoU" not in paper.items[2]
    assert any("(+1)" in note for note in fixed.notes)


def test_a_dropped_answer_has_no_hits_either(tmp_path: Path) -> None:
    paper = evaluate(*files(tmp_path, [text("0", "?")], gold([[0, 9]])), profile="paper")
    assert all(math.isnan(value) for value in paper.metrics.values())
    assert not paper.intervals


def test_answers_in_the_baselines_own_form(tmp_path: Path) -> None:
    rows = [{"question_id": 0, "model_response": ["0 - 9"]}, {"question_id": 1, "model_response": "0 - 9"}]
    assert evaluate(*files(tmp_path, rows, gold([[0, 9]], [[0, 9]]))).metrics["mIoU"] == 100


def test_the_form_can_be_asked_for(tmp_path: Path) -> None:
    both = {**frames("0", [0, 1, 1, 0]), "model_response_list": text("0", "0 - 9")["model_response_list"]}
    paths = files(tmp_path, [both], gold([[0, 9]]))
    assert "sweep" in " ".join(evaluate(*paths).notes)
    assert evaluate(*paths, form="text").metrics["mIoU"] == 100
    with pytest.raises(AnnotationError, match="of the form frames, not segments"):
        evaluate(*paths, form="segments")
    with pytest.raises(AnnotationError, match="of the form segments, not text"):
        evaluate(*files(tmp_path, segments([[0, 9]]), gold([[0, 9]])), form="text")


def test_one_line_and_a_list_are_predictions_too(tmp_path: Path) -> None:
    rows = [frames("0", [0, 1, 1, 0])]
    for form in (rows, json.dumps(rows), json.dumps(rows, indent=1)):
        assert evaluate(*files(tmp_path, form, gold([[1, 2]])), smoothing=0).metrics["mIoU"] == 100


def test_frames_without_the_score_have_relevance_zero(tmp_path: Path) -> None:
    row = frames("0", [0.0, 0.9, 0.8, 0.0])
    del row["debug_data"][0]["relevance_score"], row["debug_data"][3]["relevance_score"]
    assert evaluate(*files(tmp_path, [row], gold([[1, 2]])), smoothing=0).metrics["mIoU"] == 100


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"timestamp": [[math.nan, 5]]}, "number 0 is nan"),
        ({"timestamp": [[0, math.inf]]}, "number 1 is inf"),
        ({"timestamp": [["0", "5"]]}, "number 0 is '0'"),
        ({"timestamp": [5, 6]}, "hold 5, not [start, end]"),
        ({"timestamp": [[5]]}, "hold [5], not [start, end]"),
        ({"timestamp": "0-5"}, "are '0-5', not a list"),
        ({"timestamp": None}, "are None, not a list"),
        ({"time": 1}, "without a timestamp"),
        ([0, 5], "without a timestamp"),
        ({"timestamp": [[9, 0]]}, "segment [9.0, 0.0] ends before it starts"),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_segments_are_misses(tmp_path: Path, row: object, what: str, profile: Any) -> None:
    paths = files(tmp_path, {**segments([[0, 9]]), "1": row}, charades([0, 9], [0, 9]))
    report = evaluate(*paths, profile=profile)
    assert [problem.id for problem in report.problems] == ["1"]
    assert what in report.problems[0].what
    assert report.problems[0].counted == "IoU 0"
    assert report.metrics["mIoU"] == 50
    with pytest.raises(AnnotationError, match="1 predictions cannot be used"):
        evaluate(*paths, profile=profile, strict=True)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (frames("1", []), "no frames"),
        (frames("1", [0.1, math.nan]), "number 1 is nan"),
        (frames("1", [0.1, math.inf]), "number 1 is inf"),
        (frames("1", [0.1, "x"]), "number 1 is 'x'"),
        (frames("1", [0.1, None]), "number 1 is None"),
        (frames("1", [0.1, 0.2], interval=0.0), "times must grow"),
        (frames("1", [0.1, 0.2], interval=-1.0), "times must grow"),
        ({"question_id": "1"}, "no frames"),
    ],
)
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_malformed_frames_have_iou_zero(tmp_path: Path, row: Json, what: str, profile: Any) -> None:
    report = evaluate(
        *files(tmp_path, [frames("0", [0, 1, 1, 0]), row], gold([[1, 2]], [[1, 2]])), profile=profile, smoothing=0
    )
    assert [problem.id for problem in report.problems] == ["1"]
    assert what in report.problems[0].what
    assert report.metrics["mIoU"] == report.metrics["causal-mIoU"] == 50


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (text("1", 5), "content is not a text"),
        (text("1", "from 10 to 50", duration=None), "per cent of a video_duration that is not told"),
        (text("1", "from 10 to 50", duration="20"), "video_duration is '20'"),
        (text("1", "from 10 to 50", duration=-1), "video_duration is -1"),
        (text("1", "1 2 3"), "exactly two numbers"),
        ({"question_id": "1", "model_response_list": "0 - 9"}, "not a list of turns"),
        ({"question_id": "1", "model_response": []}, "model_response is [], not a text"),
        ({"question_id": "1"}, "model_response is None"),
    ],
)
def test_malformed_answers_have_iou_zero_or_are_dropped(tmp_path: Path, row: Json, what: str) -> None:
    paths = files(tmp_path, [text("0", "0 - 9"), row], gold([[0, 9]], [[0, 9]]))
    for profile, expected in (("fixed", 50), ("paper", 100)):
        report = evaluate(*paths, profile=profile)  # type: ignore[arg-type]
        assert [problem.id for problem in report.problems] == ["1"]
        assert what in report.problems[0].what
        assert report.metrics["mIoU"] == expected


def test_a_video_of_no_length(tmp_path: Path) -> None:
    report = evaluate(*files(tmp_path, [text("0", "from 0 to 100", duration=0)], gold([[0, 4]])))
    assert report.metrics["mIoU"] == pytest.approx(100 / 5)  # one second of five, ends included


@pytest.mark.parametrize(
    ("predictions", "annotations", "told"),
    [
        ([], gold([[0, 9]]), "predictions.jsonl is empty"),
        ({}, gold([[0, 9]]), "predictions.jsonl is empty"),
        ("[]", gold([[0, 9]]), "predictions.jsonl is empty"),
        ("not json", gold([[0, 9]]), "line 1 is not JSON"),
        ("7", gold([[0, 9]]), "holds 7, no predictions"),
        ({"a": 1}, gold([[0, 9]]), "holds neither {id: {timestamp}}"),
        ('{"0": {"timestamp": []}, "0": {"timestamp": []}}', gold([[0, 9]]), "0 is there twice"),
        ([text("0"), text(0)], gold([[0, 9]]), "question_id 0 is there twice"),
        ([text(None)], gold([[0, 9]]), "entry 1 has no question_id"),
        ([{"question_id": 0}], gold([[0, 9]]), "no entry has relevance scores"),
        (segments([[0, 9]]), [], "gold.json is empty"),
        (segments([[0, 9]]), {"annotations": []}, "gold.json is empty"),
        (segments([[0, 9]]), {"a": 1}, "holds neither a list of question_id"),
        (segments([[0, 9]]), "not json", "gold.json is not JSON"),
        (segments([[0, 9]]), [*gold([[0, 9]]), *gold([[0, 9]])], "question_id 0 is there twice"),
        (segments([[0, 9]]), gold([[9, 0]]), "query 0: span [9.0, 0.0] ends before it starts"),
        (segments([[0, 9]]), gold([]), "query 0: it has no span"),
        (segments([[0, 9]]), gold([["a", 9]]), "query 0: gold spans: number 0 is 'a'"),
        (segments([[0, 9]]), charades([0]), "query 0: gold spans hold [0]"),
        ({"7": {"timestamp": []}}, gold([[0, 9]]), "none of its 1 ids (such as 7) is annotated"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, predictions: object, annotations: object, told: str) -> None:
    with pytest.raises(AnnotationError) as error:
        evaluate(*files(tmp_path, predictions, annotations))
    assert told in str(error.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    paths = files(tmp_path, segments([[0, 9]]), gold([[0, 9]]))
    for pair in ((tmp_path / "none", paths[1]), (paths[0], tmp_path / "none")):
        with pytest.raises(AnnotationError, match="no such annotation file"):
            evaluate(*pair)


@pytest.mark.parametrize(
    "options", [{"smoothing": -1}, {"threshold": 0.0}, {"threshold": math.nan}, {"threshold": 2.0}]
)
def test_settings_are_checked(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        evaluate(*files(tmp_path, [frames("0", [0, 1])], gold([[0, 9]])), **options)


# One query, one setting and one frame at a time


def check_against_one_at_a_time(paths: tuple[Path, Path], rows: list[Json], spans: list[Any], profile: Any) -> None:
    """Every query's IoU is equal, to the last bit; the sweep's means are those of the same numbers."""
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
def test_made_up_frames_against_one_at_a_time(tmp_path: Path, profile: Any) -> None:
    rng = np.random.default_rng(1)
    spans = [[sorted(rng.uniform(0, 15, size=2).round(1).tolist()) for _ in range(q % 3 + 1)] for q in range(30)]
    rows = [made_up_frames(q, rng.uniform(3, 20), 2, of, rng) for q, of in enumerate(spans)]
    rows = [row for row in rows if len({f["relevance_score"] for f in row["debug_data"]}) > 1]  # constant ones: above
    spans = [spans[row["question_id"]] for row in rows]
    annotations = [
        {"question_id": str(row["question_id"]), "timestamps": of} for row, of in zip(rows, spans, strict=True)
    ]
    check_against_one_at_a_time(files(tmp_path, rows, annotations), rows, spans, profile)


@needs_shared
def test_made_up_frames_of_the_real_gold_against_one_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    annotated = json.loads((FOLDER / "mmduet_frames_gold.json").read_text())
    spans = [of["timestamps"] for of in annotated]
    rows = [made_up_frames(of["question_id"], 35.0, 2, of["timestamps"], rng) for of in annotated]
    path, _ = files(tmp_path, rows, annotated)
    check_against_one_at_a_time((path, FOLDER / "mmduet_frames_gold.json"), rows, spans, "paper")


# The original's numbers


@needs_shared
@pytest.mark.parametrize("profile", ["fixed", "paper"])
def test_timechats_example(profile: Any) -> None:
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
def test_answers_against_the_real_gold(tmp_path: Path) -> None:
    annotated = json.loads((FOLDER / "mmduet_text_gold.json").read_text())
    rows = [text(of["question_id"], f"It is {of['timestamps'][0][0]} - {of['timestamps'][0][1]}.") for of in annotated]
    path, _ = files(tmp_path, rows, annotated)
    assert evaluate(path, FOLDER / "mmduet_text_gold.json").metrics["mIoU"] == 100
    assert len(annotated) == 60
