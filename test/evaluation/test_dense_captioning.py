"""Dense captioning: by hand, against what the original evaluators gave, and with files that are wrong."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.dense_captioning import evaluate, tokenised
from mmduet.evaluation.metrics.captions import Candidate
from mmduet.evaluation.metrics.dense_captions import (
    THRESHOLDS,
    UNSEEN_WORD,
    Located,
    Video,
    f1,
    iou,
    located,
    overlapping_by_more_than,
    pairs_to_compare,
    starting_within,
)
from mmduet.evaluation.metrics.dense_evaluators import FLAVOURS, VideoScores, score_videos, summary
from mmduet.evaluation.metrics.meteor import Meteor
from mmduet.evaluation.metrics.paragraphs import paragraph_candidates, shifted_paragraph_candidates
from mmduet.evaluation.metrics.soda import best_assignment, in_order, in_string_order, soda_c
from mmduet.evaluation.report import Report
from mmduet.evaluation.segment_files import read_events, read_predictions
from mmduet.options import Profile
from mmduet.tasks.dense_captioning import Segment

SHARED = Path(os.environ.get("MMDUET_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
REFERENCE = SHARED / "evaluators" / "dense_captioning"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the original evaluators' numbers are not here")


def segments(*spans: tuple[float, float]) -> tuple[Segment, ...]:
    return tuple(Segment(start, end, f"caption {i}") for i, (start, end) in enumerate(spans))


# By hand


def test_iou_by_hand() -> None:
    a, b, c = segments((0, 10), (5, 15), (20, 30))
    assert iou(a, b) == pytest.approx(5 / 15)
    assert iou(a, c) == 0
    assert iou(a, a) == pytest.approx(1)
    (backwards,) = segments((10, 0))
    assert iou(a, backwards) == 0


spans = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted).map(tuple)


@given(spans, spans)
def test_iou_is_a_symmetric_share(a: tuple[float, float], b: tuple[float, float]) -> None:
    one, other = segments(a, b)
    assert 0 <= iou(one, other) <= 1
    assert iou(one, other) == iou(other, one)


def test_precision_and_recall_by_hand() -> None:
    # IoU with the event 0-10: 1 and 4/10; the event 50-60 is found by nobody
    video = Video(segments((0, 10), (0, 4)), (segments((0, 10), (50, 60)),))
    assert located(video, overlapping_by_more_than(0.3)) == Located(1.0, 0.5)
    assert located(video, overlapping_by_more_than(0.5)) == Located(0.5, 0.5)
    assert located(video, starting_within(1)) == Located(1.0, 0.5)
    assert located(Video((), video.references), overlapping_by_more_than(0.3)) == Located(0.0, 0.0)


def test_the_best_set_counts_for_each_number_by_itself() -> None:
    video = Video(segments((0, 10), (20, 30)), (segments((0, 10)), None, segments((0, 10), (20, 30), (40, 50))))
    # P: 1/2 and 1; R: 1 and 2/3
    assert located(video, overlapping_by_more_than(0.5)) == Located(1.0, 1.0)


def test_half_is_not_half() -> None:
    """The originals' epsilon: neither more than a threshold that is met exactly, nor as much."""
    video = Video(segments((0, 5)), (segments((0, 10)),))
    assert located(video, overlapping_by_more_than(0.5)).precision == 0
    assert pairs_to_compare(video, 0.5) == [Candidate("caption 0", (UNSEEN_WORD,))]


def test_a_distance_is_met_by_less_than_itself() -> None:
    video = Video(segments((3, 9)), (segments((0, 1)),))
    assert located(video, starting_within(3)).recall == 0
    assert located(video, starting_within(3.1)).recall == 1


def test_each_prediction_is_compared_with_every_event_it_overlaps() -> None:
    video = Video(segments((0, 10), (50, 60)), (segments((0, 9), (30, 40)), segments((1, 10))))
    assert pairs_to_compare(video, 0.5, "nothing") == [
        Candidate("caption 0", ("caption 0",)),
        Candidate("caption 0", ("caption 0",)),
        Candidate("caption 1", ("nothing",)),
    ]


def test_the_unseen_word_counts_for_nothing_but_its_length(meteor: Meteor) -> None:
    ((short, _), (long, _)) = meteor.scores(
        [
            [Candidate("a dog", ("a dog",)), Candidate("x y", (UNSEEN_WORD,))],
            [Candidate("a dog", ("a dog",)), Candidate("x y", ("abc123!@#",))],
        ]
    )
    assert 0 < long < short < 1


def test_f1_of_each_flavour_by_hand() -> None:
    videos = [
        VideoScores(1, (Located(1.0, 0.5),) * 2 + (Located(0.0, 0.0),) * 2, ({},) * 4, (0.0,)),
        VideoScores(1, (Located(0.0, 0.0),) * 4, ({},) * 4, (0.0,)),
    ]
    videos = [replace(video, captions=(dict.fromkeys(NAMES, 0.0),) * 4) for video in videos]
    # each video: P = 1/2, R = 1/4 and 0, 0
    assert summary(videos, FLAVOURS["vid2seq"])["F1"] == pytest.approx((2 * 1 / 2 * 1 / 4 / (3 / 4) + 0) / 2)
    # of the means: P = 1/4, R = 1/8
    assert summary(videos, FLAVOURS["densevid2021"])["F1"] == pytest.approx(2 * 1 / 4 * 1 / 8 / (3 / 8))
    # at .3 and .5: P = 1/2, R = 1/4; at .7 and .9: 0
    videos = [replace(video, distant=(Located(0.0, 0.0),) * 6) for video in videos]
    assert summary(videos, FLAVOURS["vidchapters"])["F1"] == pytest.approx((2 * 1 / 2 * 1 / 4 / (3 / 4)) / 2)


NAMES = ("CIDEr", "METEOR", "ROUGE_L", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")


def test_soda_by_hand() -> None:
    # two events, two predictions that fit exactly; captions fit crosswise, which the order forbids
    events = predictions = segments((0, 10), (10, 20))
    assert soda_c(predictions, events, np.array([[0.2, 0.9], [0.9, 0.4]])) == pytest.approx((0.2 + 0.4) / 2)
    # one of three predictions fits: P = .6 / 3, R = .6 / 1
    three = segments((0, 10), (30, 40), (50, 60))
    assert soda_c(three, events[:1], np.array([[0.6, 1.0, 1.0]])) == pytest.approx(2 * 0.2 * 0.6 / 0.8)
    assert soda_c((), events, np.zeros((2, 0))) == 0


def test_soda_of_several_sets_by_hand() -> None:
    empty = (dict.fromkeys(NAMES, 0.0),) * 4
    scores = [
        VideoScores(1, (Located(0, 0),) * 4, empty, (0.4, 0.2)),
        VideoScores(1, (Located(0, 0),) * 4, empty, (0.1, None)),
    ]
    metrics = summary(scores, FLAVOURS["vid2seq"])
    assert metrics["SODA_c_1"] == pytest.approx((0.4 + 0.1) / 2)
    assert metrics["SODA_c_2"] == pytest.approx(0.2)
    assert metrics["SODA_c"] == pytest.approx((0.25 + 0.2) / 2)
    assert metrics["SODA_c_best"] == pytest.approx((0.4 + 0.1) / 2)


def test_the_bug_permutes_columns_only_beyond_ten() -> None:
    ten = np.arange(10.0)[None]
    assert in_string_order(ten).tolist() == ten.tolist()
    assert in_string_order(np.arange(12.0)[None]).tolist() == [[0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]]


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_best_assignment_is_the_best_of_all(rows: int, columns: int, data: st.DataObject) -> None:
    numbers = st.lists(st.floats(0, 1), min_size=rows * columns, max_size=rows * columns)
    weights = np.array(data.draw(numbers)).reshape(rows, columns)
    best = max(
        sum(weights[r, c] for r, c in zip(some, others, strict=True))
        for size in range(min(rows, columns) + 1)
        for some in itertools.combinations(range(rows), size)
        for others in itertools.combinations(range(columns), size)
    )
    assert best_assignment(weights) == pytest.approx(best)


def test_paragraphs_by_hand() -> None:
    predicted = {"b": ["Cut 2 eggs", "Don't stir"], "c": []}
    events = {"a": [["One."]], "b": [["Two."], ["Two", "more"]], "c": [["Three."]]}
    told = Candidate("cut eggs don t stir", ("two", "two more"))
    assert paragraph_candidates(predicted, events) == [Candidate("", ("one",)), told, Candidate("", ("three",))]
    assert shifted_paragraph_candidates(predicted, events) == [
        Candidate("cut eggs don t stir", ("one",)),
        Candidate("", ("two", "two more")),
    ]


# Against the original evaluators

ITEM = "SODA_c_numeric_order"
PROFILES: tuple[Profile, ...] = ("paper", "fixed")
ORIGINAL_NAMES = {"CIDER": "CIDEr", "SODA_c_2": "SODA_c", "F1_Score": "F1", "Rouge-L": "ROUGE_L"}


def load(*parts: str) -> Any:
    return json.loads(REFERENCE.joinpath(*parts).read_text(encoding="utf-8"))


def assert_metrics(report: Report, expected: Mapping[str, float], names: Mapping[str, str] = ORIGINAL_NAMES) -> None:
    counts = {"n_preds"}
    ours = {name: report.metrics[names.get(name, name)] / (1 if name in counts else 100) for name in expected}
    assert ours == pytest.approx(expected, abs=1e-6)
    assert ours


def assert_items(report: Report, expected: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> None:
    items = {item["id"]: item for item in report.items}
    assert set(items) >= set(expected)
    for video, numbers in expected.items():
        known = {name: number for name, number in numbers.items() if name in names}
        assert {name: items[video][names[name]] / 100 for name in known} == pytest.approx(known, abs=1e-6)
        assert len(known) >= 4


ITEM_NAMES = {
    **ORIGINAL_NAMES,
    "METEOR": "METEOR",
    "Precision_Mean": "Precision_Mean",
    "Recall_Mean": "Recall_Mean",
}
# One file of each evaluator is quick, the others take METEOR seconds each.
slow = pytest.mark.slow
TIMECHAT = [
    ("yc2_jitter_missing", "preds.json", "val.json", "expected_mmduet_timechat_eval.json"),
    pytest.param("yc2_jitter", "preds.json", "val.json", "expected_mmduet_timechat_eval.json", marks=slow),
    pytest.param("mmduet_raw", "preds.jsonl", "gold.json", "expected.json", marks=slow),
    pytest.param("yc2_timechat", "preds.json", "val.json", "expected_mmduet_timechat_eval.json", marks=slow),
]


@needs_reference
@pytest.mark.parametrize(("folder", "predictions", "annotations", "expected"), TIMECHAT)
def test_mmduet_and_timechat_bug_for_bug(
    folder: str, predictions: str, annotations: str, expected: str, meteor: Meteor
) -> None:
    here, told = REFERENCE / folder, load(folder, expected)
    report = evaluate(here / predictions, here / annotations, profile="paper", meteor=meteor)
    assert_metrics(report, told["corpus_mean_over_videos"])
    assert_metrics(report, told["paragraph"], {"Para_CIDER": "Para_CIDEr"})
    assert_items(report, told["per_video"], ITEM_NAMES)


@needs_reference
@pytest.mark.parametrize(("folder", "predictions", "annotations", "expected"), TIMECHAT)
def test_soda_with_columns_in_their_order(
    folder: str, predictions: str, annotations: str, expected: str, meteor: Meteor
) -> None:
    """The bug alone taken away: events stay as unsorted, and replies as converted, as in the original."""
    told, paper = load(folder, expected), FLAVOURS["vid2seq"]
    predicted = read_predictions(REFERENCE / folder / predictions, "paper").videos
    events = read_events(REFERENCE / folder / annotations, "paper")
    turned = {
        name: tuple(replace(s, start=min(s.start, s.end), end=max(s.start, s.end)) for s in video)
        for name, video in predicted.items()
    }
    videos = tokenised([Video(turned.get(name, ()), (events[name],)) for name in events])
    scores = score_videos(videos, meteor, paper)
    assert summary(scores, paper)["SODA_c"] == pytest.approx(told["SODA_c_with_columns_in_numeric_order"], abs=1e-6)
    each = {name: numbers[ITEM] for name, numbers in told["per_video"].items() if ITEM in numbers}
    ours = {name: video.soda[0] for name, video in zip(events, scores, strict=True)}
    assert {name: ours[name] for name in each} == pytest.approx(each, abs=1e-6)


@slow
@needs_reference
@pytest.mark.parametrize("folder", ["yc2_jitter", "yc2_jitter_missing"])
def test_fixed_differs_in_soda_and_paragraphs_alone(folder: str, meteor: Meteor) -> None:
    here, told = REFERENCE / folder, load(folder, "expected_mmduet_timechat_eval.json")
    report = evaluate(here / "preds.json", here / "val.json", meteor=meteor)
    expected = told["corpus_mean_over_videos"] | {"SODA_c_2": told["SODA_c_with_columns_in_numeric_order"]}
    assert_metrics(report, expected)
    whole = folder == "yc2_jitter"
    assert (report.metrics["Para_CIDEr"] == pytest.approx(100 * told["paragraph"]["Para_CIDER"])) == whole
    assert len(report.problems) == (0 if whole else 4)


@needs_reference
def test_replies_become_the_segments_of_the_original() -> None:
    merged = load("mmduet_raw", "expected.json")["intermediate_segments_after_merging"]
    predicted = read_predictions(REFERENCE / "mmduet_raw" / "preds.jsonl", "paper")
    assert predicted.streamed
    ours = {
        name: [{"timestamp": [s.start, s.end], "caption": s.caption} for s in video]
        for name, video in predicted.videos.items()
    }
    assert ours == merged
    gold = load("mmduet_raw", "expected.json")["intermediate_gold"]["annotations"]
    events = read_events(REFERENCE / "mmduet_raw" / "gold.json", "paper")
    assert {name: " ".join(s.caption for s in video)[:-1] for name, video in events.items()} == {
        entry["image_id"]: entry["pure_cap"] for entry in gold
    }


@slow
@needs_reference
def test_fixed_keeps_the_first_reply(meteor: Meteor) -> None:
    here = REFERENCE / "mmduet_raw"
    paper, fixed = (evaluate(here / "preds.jsonl", here / "gold.json", profile=p, meteor=meteor) for p in PROFILES)
    told = {item["id"]: item["n_preds"] for item in paper.items}
    more = {item["id"]: item["n_preds"] - told[item["id"]] for item in fixed.items}
    assert set(more.values()) == {0, 1}
    assert [name for name, extra in more.items() if not extra] == ["v_IDu5czNIM1w"]  # which says nothing at all


@slow
@needs_reference
def test_vid2seq_with_two_sets(meteor: Meteor) -> None:
    here, told = REFERENCE / "anet_jitter", load("anet_jitter", "expected_vid2seq_eval.json")
    names = {"CIDER": "CIDEr", "F1_Score": "F1", "SODA_c_best_reference_per_video": "SODA_c_best"}
    sets = [here / "val_1.json", here / "val_2.json"]
    report = evaluate(here / "preds_densevid.json", sets, profile="paper", meteor=meteor)
    assert_metrics(report, told["vid2seq_aggregation"], names)
    present = {
        video: {name: number for name, number in numbers.items() if number != -1}
        for video, numbers in told["per_video"].items()
    }
    items = {item["id"]: item for item in report.items}
    for video, numbers in present.items():
        ours = {name: items[video][names.get(name, name)] / 100 for name in numbers}
        assert ours == pytest.approx(numbers, abs=1e-6)
        assert ("SODA_c_2" in numbers) == ("SODA_c_2" in items[video])


@slow
@needs_reference
@pytest.mark.parametrize("key", ["numeric_order", "numeric_order_and_ground_truth_sorted_by_start"])
def test_vid2seq_with_two_sets_in_order(key: str, meteor: Meteor) -> None:
    """Both numbers of the original have the predictions as they are in the file."""
    told = load("anet_jitter", "expected_vid2seq_eval.json")[key]
    sets = [read_events(REFERENCE / "anet_jitter" / f"val_{i}.json") for i in (1, 2)]
    predicted = read_predictions(REFERENCE / "anet_jitter" / "preds_densevid.json").videos
    order = in_order if "sorted" in key else tuple
    videos = tokenised(
        [Video(predicted[name], tuple(tuple(order(s[name])) if name in s else None for s in sets)) for name in sets[0]]
    )
    metrics = summary(score_videos(videos, meteor, FLAVOURS["vid2seq"]), FLAVOURS["vid2seq"])
    names = {"SODA_c_best_reference_per_video": "SODA_c_best"}
    assert {name: metrics[names.get(name, name)] for name in told} == pytest.approx(told, abs=1e-6)


DENSEVID = [
    ("yc2_jitter_missing", ["gt_densevid.json"]),
    pytest.param("yc2_jitter", ["gt_densevid.json"], marks=slow),
    pytest.param("anet_jitter", ["val_1.json", "val_2.json"], marks=slow),
]


@needs_reference
@pytest.mark.parametrize(("year", "profile"), [("2018", "paper"), pytest.param("2021", "fixed", marks=slow)])
@pytest.mark.parametrize(("folder", "annotations"), DENSEVID)
def test_densevid(folder: str, annotations: list[str], year: Any, profile: Any, meteor: Meteor) -> None:
    here = REFERENCE / folder
    told = load(folder, "expected_densevid_eval.json")["PDVC_densevid_eval3"][f"evaluate{year}"]
    paths = [here / name for name in annotations]
    flavour: Any = f"densevid{year}"
    report = evaluate(here / "preds_densevid.json", paths, flavour=flavour, profile=profile, meteor=meteor)
    assert_metrics(report, told["mean"], {"Precision": "Precision_Mean", "Recall": "Recall_Mean"})
    for name, values in told["per_tiou_0.3_0.5_0.7_0.9"].items():
        assert_metrics(report, {f"{name}@{t}": value for t, value in zip(THRESHOLDS, values, strict=True)})


@needs_reference
@pytest.mark.parametrize(("folder", "annotations"), DENSEVID)
def test_vidchapters(folder: str, annotations: list[str], meteor: Meteor) -> None:
    here, told = REFERENCE / folder, load(folder, "expected_densevid_eval.json")["VidChapters_dvc_eval"]
    paths = [here / name for name in annotations]
    report = evaluate(here / "preds_densevid.json", paths, flavour="vidchapters", meteor=meteor)
    names = {"Rouge-L": "ROUGE_L", "Precision": "Precision_Mean", "Recall": "Recall_Mean"}
    assert_metrics(report, told, names)
    assert len(told) == 40


# Files

EVENTS = {"a": {"timestamps": [[0, 10], [10, 20]], "sentences": ["A dog runs.", "A cat sleeps."], "duration": 20}}
SEGMENTS = {"a": [{"timestamp": [0, 10], "caption": "A dog runs."}, {"timestamp": [10, 20], "sentence": "A cat."}]}
TURNS = [
    {"role": "user", "content": "what happens?", "time": 2},
    {"role": "assistant", "content": "A dog runs.", "time": 10},
    {"role": "assistant", "content": "A cat sleeps.", "time": 20},
]


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("fixed", [Segment(2.0, 10.0, "A dog runs."), Segment(10.0, 20.0, "A cat sleeps.")]),
        ("paper", [Segment(10.0, 20.0, "A cat sleeps.")]),
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_single_line_of_replies(name: str, profile: Any, expected: list[Segment], tmp_path: Path) -> None:
    path = write(tmp_path / name, {"question_id": "a", "model_response_list": TURNS})
    assert read_predictions(path, profile).videos == {"a": tuple(expected)}


def test_captions_of_every_kind_of_annotation(tmp_path: Path) -> None:
    vid2seq = {"annotations": [{"image_id": "a", "segments": [[0, 1], [1, 2]], "pure_cap": "One. Two."}]}
    answers = [{"role": "assistant", "content": "One. Or two", "time": [0, 1]}]
    duet = [{"question_id": "a", "answer": answers}]
    path = tmp_path / "a.json"
    captions = {p: [s.caption for s in read_events(write(path, vid2seq), p)["a"]] for p in PROFILES}
    assert captions == {"fixed": ["One.", "Two."], "paper": ["One.", "Two.."]}
    captions = {p: [s.caption for s in read_events(write(path, duet), p)["a"]] for p in PROFILES}
    assert captions == {"fixed": ["One. Or two"], "paper": ["One, Or two."]}
    assert [s.end for s in read_events(write(path, EVENTS))["a"]] == [10, 20]


def test_perfect_predictions_are_perfect(meteor: Meteor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", EVENTS)
    rows = [{"timestamp": [0, 10], "caption": "A dog runs."}, {"timestamp": [10, 20], "caption": "A cat sleeps."}]
    report = evaluate(write(tmp_path / "p.json", {"a": rows}), path, strict=True, meteor=meteor)
    perfect = {name: report.metrics[name] for name in ("SODA_c", "METEOR", "F1", "Precision_Mean", "Recall_Mean")}
    assert perfect == pytest.approx(dict.fromkeys(perfect, 100), abs=1e-4)
    assert report.metrics["Para_METEOR"] == pytest.approx(100)
    assert report.metrics["n_preds"] == 2


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_silence_scores_nothing(flavour: Any, meteor: Meteor, tmp_path: Path) -> None:
    report = evaluate(
        write(tmp_path / "p.json", {"a": []}), write(tmp_path / "a.json", EVENTS), flavour=flavour, meteor=meteor
    )
    assert set(report.metrics.values()) == {0}
    assert report.problems == []


@pytest.mark.parametrize(
    ("flavour", "profile", "counted", "precision"),
    [
        ("vid2seq", "fixed", "nothing said of any event", 50),
        ("vid2seq", "paper", "nothing said of any event", 50),
        ("vidchapters", "fixed", "nothing: left out of the mean", 100),
    ],
)
def test_missing_and_unknown_videos(
    flavour: Any, profile: Any, counted: str, precision: float, meteor: Meteor, tmp_path: Path
) -> None:
    annotations = write(tmp_path / "a.json", EVENTS | {"b": EVENTS["a"]})
    predictions = write(tmp_path / "p.json", SEGMENTS | {"z": []})
    report = evaluate(predictions, annotations, flavour=flavour, profile=profile, meteor=meteor)
    assert [(p.id, p.counted) for p in report.problems] == [("b", counted), ("z", "nothing: left out")]
    assert report.metrics["Precision@0.5"] == pytest.approx(precision)
    with pytest.raises(AnnotationError, match="2 predictions cannot be used"):
        evaluate(predictions, annotations, strict=True, meteor=meteor)


def test_replies_for_some_videos_only(meteor: Meteor, tmp_path: Path) -> None:
    """The paper's conversion leaves the others out; the fixed one counts them."""
    annotations = write(tmp_path / "a.json", EVENTS | {"b": EVENTS["a"]})
    predictions = write(tmp_path / "p.jsonl", {"question_id": "a", "model_response_list": TURNS})
    reports = {p: evaluate(predictions, annotations, profile=p, meteor=meteor) for p in PROFILES}
    assert {p: [item["id"] for item in report.items] for p, report in reports.items()} == {
        "paper": ["a"],
        "fixed": ["a", "b"],
    }
    assert reports["fixed"].metrics["Recall@0.5"] == pytest.approx(50)


def test_a_reversed_segment_is_told(meteor: Meteor, tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.json", {"a": [{"timestamp": [10, 0], "caption": "A dog runs."}]})
    annotations = write(tmp_path / "a.json", EVENTS)
    turned = evaluate(predictions, annotations, meteor=meteor)
    lost = evaluate(predictions, annotations, flavour="densevid2021", meteor=meteor)
    assert [p.counted for p in turned.problems + lost.problems] == ["turned round", "a segment that overlaps nothing"]
    assert (turned.metrics["Precision_Mean"], lost.metrics["Precision_Mean"]) == (100, 0)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("[]", "is empty"),
        ({"results": {}}, "they map a video to its segments"),
        ({"results": []}, "they map a video to its segments"),
        ({"a": 3}, "'a' has 3 where a list should be"),
        ({"a": [{"caption": "x"}]}, "segment 0 needs one of timestamp"),
        ({"a": [{"timestamp": [0, 1]}]}, "segment 0 needs one of caption, sentence"),
        ({"a": [{"timestamp": [0], "caption": "x"}]}, r"the times \[0\]"),
        ({"a": [{"timestamp": [0, "1"], "caption": "x"}]}, "'1' where a number should be"),
        ('{"a": [{"timestamp": [0, NaN], "caption": "x"}]}', "nan where a number should be"),
        ('{"a": [{"timestamp": [0, Infinity], "caption": "x"}]}', "inf where a number should be"),
        ({"a": [{"timestamp": [0, 1], "caption": None}]}, "None where a text should be"),
        ('{"a": [], "a": []}', "'a' is there twice"),
        ({"z": []}, "have no id in common"),
        ([{"question_id": "a", "model_response_list": []}] * 2, "'a' is there twice"),
        ([{"question_id": "a"}], "needs one of model_response_list"),
        ([{"model_response_list": []}], "needs one of question_id, video, id"),
        ([{"question_id": "a", "model_response_list": [{"role": "user"}]}], "turn 0 needs one of time"),
        ([["a"]], "entry 0 needs one of"),
        ("{", "not JSON"),
    ],
)
def test_predictions_that_cannot_be_used(predictions: Any, message: str, tmp_path: Path) -> None:
    annotations = write(tmp_path / "a.json", EVENTS)
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", predictions), annotations)
    assert "p.json" in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"annotations": []}, "holds no video"),
        ({"annotations": 3}, "where a list should be"),
        ({"annotations": [{"image_id": "a", "segments": [[0, 1]], "pure_cap": "One. Two"}]}, "into 2 captions for 1"),
        ({"annotations": [{"image_id": "a", "segments": [[0, 1]], "pure_cap": "One"}] * 2}, "'a' is there twice"),
        ({"a": {"timestamps": [[0, 1]], "sentences": []}}, "has 1 timestamps and 0 sentences"),
        ({"a": {"timestamps": [], "sentences": []}}, "'a' has no event"),
        ({"a": {"timestamps": [[0, 1]]}}, "needs one of sentences"),
        ({"a": [1]}, "needs one of timestamps"),
        ([{"question_id": "a", "answer": [{"content": "x", "time": 3}]}], "3 where a list should be"),
        ([{"question_id": "a", "answer": []}], "'a' has no event"),
    ],
)
def test_annotations_that_cannot_be_used(annotations: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", SEGMENTS), write(tmp_path / "a.json", annotations))
    assert "a.json" in str(caught.value)


def test_an_unknown_flavour(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="use one of vid2seq, densevid2018"):
        evaluate(tmp_path / "p", tmp_path / "a", flavour="soda")


def test_f1_of_nothing() -> None:
    assert f1(0, 0) == 0
