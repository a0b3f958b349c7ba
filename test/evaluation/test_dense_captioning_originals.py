"""Dense captioning: numbers of the original evaluators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from originals import SHARED, needs

from mmduet.annotations.dense_captioning_files import read_events
from mmduet.evaluation.benchmarks.dense_captioning import evaluate, read_predicted_segments, tokenize_videos
from mmduet.evaluation.report import Report
from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.metrics.dense_captions import (
    IOU_THRESHOLDS,
    VideoCaptions,
)
from mmduet.metrics.dense_evaluators import EVALUATORS, score_videos, summarize
from mmduet.metrics.soda import sort_by_start
from mmduet.options import Profile
from mmduet.spans import CaptionedSpan

REFERENCE = SHARED / "dense_captioning"
needs_reference = needs(REFERENCE)


def segments(*spans: tuple[float, float]) -> tuple[CaptionedSpan, ...]:
    return tuple(CaptionedSpan(start, end, f"caption {i}") for i, (start, end) in enumerate(spans))


ITEM = "SODA_c_numeric_order"
PROFILES: tuple[Profile, ...] = ("paper", "fixed")
ORIGINAL_NAMES = {"CIDER": "CIDEr", "SODA_c_2": "SODA_c", "F1_Score": "F1", "Rouge-L": "ROUGE_L"}


def load(*parts: str) -> Any:
    return json.loads(REFERENCE.joinpath(*parts).read_text(encoding="utf-8"))


def assert_metrics(report: Report, expected: Mapping[str, float], names: Mapping[str, str] = ORIGINAL_NAMES) -> None:
    counts = {"n_preds"}
    computed = {name: report.metrics[names.get(name, name)] / (1 if name in counts else 100) for name in expected}
    assert computed == pytest.approx(expected, abs=1e-6)
    assert computed


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
def test_profile_paper_equals_mmduet_and_timechat(
    folder: str, predictions: str, annotations: str, expected: str, meteor: Meteor
) -> None:
    data, original = REFERENCE / folder, load(folder, expected)
    report = evaluate(data / predictions, data / annotations, profile="paper", meteor=meteor)
    assert_metrics(report, original["corpus_mean_over_videos"])
    assert_metrics(report, original["paragraph"], {"Para_CIDER": "Para_CIDEr"})
    assert_items(report, original["per_video"], ITEM_NAMES)


@needs_reference
@pytest.mark.parametrize(("folder", "predictions", "annotations", "expected"), TIMECHAT)
def test_soda_without_the_column_bug(
    folder: str, predictions: str, annotations: str, expected: str, meteor: Meteor
) -> None:
    """Only the bug is corrected: events stay unsorted and replies are converted as in the original."""
    original, paper = load(folder, expected), EVALUATORS["vid2seq"]
    predicted = read_predicted_segments(REFERENCE / folder / predictions, "paper").videos
    events = read_events(REFERENCE / folder / annotations, "paper")
    turned = {
        name: tuple(s._replace(start=min(s.start, s.end), end=max(s.start, s.end)) for s in video)
        for name, video in predicted.items()
    }
    videos = tokenize_videos([VideoCaptions(turned.get(name, ()), (events[name],)) for name in events])
    scores = score_videos(videos, meteor, paper)
    assert summarize(scores, paper)["SODA_c"] == pytest.approx(
        original["SODA_c_with_columns_in_numeric_order"], abs=1e-6
    )
    each = {name: numbers[ITEM] for name, numbers in original["per_video"].items() if ITEM in numbers}
    computed = {name: video.soda[0] for name, video in zip(events, scores, strict=True)}
    assert {name: computed[name] for name in each} == pytest.approx(each, abs=1e-6)


@slow
@needs_reference
@pytest.mark.parametrize("folder", ["yc2_jitter", "yc2_jitter_missing"])
def test_profile_fixed_differs_only_in_soda_and_paragraphs(folder: str, meteor: Meteor) -> None:
    data, original = REFERENCE / folder, load(folder, "expected_mmduet_timechat_eval.json")
    report = evaluate(data / "preds.json", data / "val.json", meteor=meteor)
    expected = original["corpus_mean_over_videos"] | {"SODA_c_2": original["SODA_c_with_columns_in_numeric_order"]}
    assert_metrics(report, expected)
    whole = folder == "yc2_jitter"
    assert (report.metrics["Para_CIDEr"] == pytest.approx(100 * original["paragraph"]["Para_CIDER"])) == whole
    assert len(report.problems) == (0 if whole else 4)


@needs_reference
def test_replies_are_converted_to_the_segments_of_the_original() -> None:
    merged = load("mmduet_raw", "expected.json")["intermediate_segments_after_merging"]
    predicted = read_predicted_segments(REFERENCE / "mmduet_raw" / "preds.jsonl", "paper")
    assert predicted.streamed
    computed = {
        name: [{"timestamp": [s.start, s.end], "caption": s.caption} for s in video]
        for name, video in predicted.videos.items()
    }
    assert computed == merged
    gold = load("mmduet_raw", "expected.json")["intermediate_gold"]["annotations"]
    events = read_events(REFERENCE / "mmduet_raw" / "gold.json", "paper")
    assert {name: " ".join(s.caption for s in video)[:-1] for name, video in events.items()} == {
        entry["image_id"]: entry["pure_cap"] for entry in gold
    }


@slow
@needs_reference
def test_profile_fixed_keeps_the_first_reply(meteor: Meteor) -> None:
    data = REFERENCE / "mmduet_raw"
    paper, fixed = (evaluate(data / "preds.jsonl", data / "gold.json", profile=p, meteor=meteor) for p in PROFILES)
    original = {item["id"]: item["n_preds"] for item in paper.items}
    more = {item["id"]: item["n_preds"] - original[item["id"]] for item in fixed.items}
    assert set(more.values()) == {0, 1}
    assert [name for name, extra in more.items() if not extra] == ["v_IDu5czNIM1w"]  # which says nothing at all


@slow
@needs_reference
def test_vid2seq_with_two_reference_sets(meteor: Meteor) -> None:
    data, original = REFERENCE / "anet_jitter", load("anet_jitter", "expected_vid2seq_eval.json")
    names = {"CIDER": "CIDEr", "F1_Score": "F1", "SODA_c_best_reference_per_video": "SODA_c_best"}
    sets = [data / "val_1.json", data / "val_2.json"]
    report = evaluate(data / "preds_densevid.json", sets, profile="paper", meteor=meteor)
    assert_metrics(report, original["vid2seq_aggregation"], names)
    present = {
        video: {name: number for name, number in numbers.items() if number != -1}
        for video, numbers in original["per_video"].items()
    }
    items = {item["id"]: item for item in report.items}
    for video, numbers in present.items():
        computed = {name: items[video][names.get(name, name)] / 100 for name in numbers}
        assert computed == pytest.approx(numbers, abs=1e-6)
        assert ("SODA_c_2" in numbers) == ("SODA_c_2" in items[video])


@slow
@needs_reference
@pytest.mark.parametrize("key", ["numeric_order", "numeric_order_and_ground_truth_sorted_by_start"])
def test_vid2seq_with_two_reference_sets_in_file_order(key: str, meteor: Meteor) -> None:
    """Both numbers of the original use the order of predictions in the file."""
    original = load("anet_jitter", "expected_vid2seq_eval.json")[key]
    sets = [read_events(REFERENCE / "anet_jitter" / f"val_{i}.json") for i in (1, 2)]
    predicted = read_predicted_segments(REFERENCE / "anet_jitter" / "preds_densevid.json", "fixed").videos
    order = sort_by_start if "sorted" in key else tuple
    videos = tokenize_videos(
        [
            VideoCaptions(predicted[name], tuple(tuple(order(s[name])) if name in s else None for s in sets))
            for name in sets[0]
        ]
    )
    metrics = summarize(score_videos(videos, meteor, EVALUATORS["vid2seq"]), EVALUATORS["vid2seq"])
    names = {"SODA_c_best_reference_per_video": "SODA_c_best"}
    assert {name: metrics[names.get(name, name)] for name in original} == pytest.approx(original, abs=1e-6)


DENSEVID = [
    ("yc2_jitter_missing", ["gt_densevid.json"]),
    pytest.param("yc2_jitter", ["gt_densevid.json"], marks=slow),
    pytest.param("anet_jitter", ["val_1.json", "val_2.json"], marks=slow),
]


@needs_reference
@pytest.mark.parametrize(("year", "profile"), [("2018", "paper"), pytest.param("2021", "fixed", marks=slow)])
@pytest.mark.parametrize(("folder", "annotations"), DENSEVID)
def test_flavour_densevid_equals_the_original(
    folder: str, annotations: list[str], year: Any, profile: Any, meteor: Meteor
) -> None:
    data = REFERENCE / folder
    original = load(folder, "expected_densevid_eval.json")["PDVC_densevid_eval3"][f"evaluate{year}"]
    paths = [data / name for name in annotations]
    flavour: Any = f"densevid{year}"
    report = evaluate(data / "preds_densevid.json", paths, flavour=flavour, profile=profile, meteor=meteor)
    assert_metrics(report, original["mean"], {"Precision": "Precision_Mean", "Recall": "Recall_Mean"})
    for name, values in original["per_tiou_0.3_0.5_0.7_0.9"].items():
        assert_metrics(report, {f"{name}@{t}": value for t, value in zip(IOU_THRESHOLDS, values, strict=True)})


@needs_reference
@pytest.mark.parametrize(("folder", "annotations"), DENSEVID)
def test_flavour_vidchapters_equals_the_original(folder: str, annotations: list[str], meteor: Meteor) -> None:
    data, original = REFERENCE / folder, load(folder, "expected_densevid_eval.json")["VidChapters_dvc_eval"]
    paths = [data / name for name in annotations]
    report = evaluate(data / "preds_densevid.json", paths, flavour="vidchapters", meteor=meteor)
    names = {"Rouge-L": "ROUGE_L", "Precision": "Precision_Mean", "Recall": "Recall_Mean"}
    assert_metrics(report, original, names)
    assert len(original) == 40
