"""Files of dense captioning: supported formats, reported problems, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.dense_captioning import evaluate, read_predicted_segments
from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.metrics.dense_evaluators import EVALUATORS
from mmduet.options import Profile
from mmduet.spans import CaptionedSpan


def segments(*spans: tuple[float, float]) -> tuple[CaptionedSpan, ...]:
    return tuple(CaptionedSpan(start, end, f"caption {i}") for i, (start, end) in enumerate(spans))


PROFILES: tuple[Profile, ...] = ("paper", "fixed")
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
        ("fixed", [CaptionedSpan(2.0, 10.0, "A dog runs."), CaptionedSpan(10.0, 20.0, "A cat sleeps.")]),
        ("paper", [CaptionedSpan(10.0, 20.0, "A cat sleeps.")]),
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_file_with_a_single_line_of_replies_is_read(
    name: str, profile: Any, expected: list[CaptionedSpan], tmp_path: Path
) -> None:
    path = write(tmp_path / name, {"question_id": "a", "model_response_list": TURNS})
    assert read_predicted_segments(path, profile).videos == {"a": tuple(expected)}


def test_frame_scores_in_the_form_of_mmduet_give_the_same_caption_spans(meteor: Meteor, tmp_path: Path) -> None:
    """``video_time`` and pairs of probabilities, as in MMDuet's files, give the same result as ``time`` and one score."""
    scores = [0.0, 0.9, 0.9, 0.0]
    frames = [{"time": k, "informative_score": s, "relevance_score": 0.0} for k, s in enumerate(scores)]
    mmduet_frames = [
        {"video_time": k, "informative_score": [1 - s, s], "relevance_score": [1, 0]} for k, s in enumerate(scores)
    ]
    without_scores = [{"time": k, "relevance_score": 0.0} for k in range(4)]
    events = write(tmp_path / "a.json", {"v": {"timestamps": [[0, 2]], "sentences": ["one"], "duration": 10}})
    found = []
    for debug_data in (frames, mmduet_frames, without_scores):
        replies = [{"role": "assistant", "content": "g", "time": 2}]
        row = {"question_id": "v", "model_response_list": replies, "debug_data": debug_data}
        found.append(evaluate(write(tmp_path / "p.json", row), events, meteor=meteor).metrics["F1"])
    assert found[0] == found[1] != found[2]


def test_perfect_predictions_score_100(meteor: Meteor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", EVENTS)
    rows = [{"timestamp": [0, 10], "caption": "A dog runs."}, {"timestamp": [10, 20], "caption": "A cat sleeps."}]
    report = evaluate(write(tmp_path / "p.json", {"a": rows}), path, strict=True, meteor=meteor)
    perfect = {name: report.metrics[name] for name in ("SODA_c", "METEOR", "F1", "Precision_Mean", "Recall_Mean")}
    assert perfect == pytest.approx(dict.fromkeys(perfect, 100), abs=1e-4)
    assert report.metrics["Para_METEOR"] == pytest.approx(100)
    assert report.metrics["n_preds"] == 2


@pytest.mark.parametrize("flavour", EVALUATORS)
def test_empty_predictions_score_zero(flavour: Any, meteor: Meteor, tmp_path: Path) -> None:
    report = evaluate(
        write(tmp_path / "p.json", {"a": []}), write(tmp_path / "a.json", EVENTS), flavour=flavour, meteor=meteor
    )
    assert set(report.metrics.values()) == {0}
    assert report.problems == []


@pytest.mark.parametrize(
    ("flavour", "profile", "counted", "precision"),
    [
        ("vid2seq", "fixed", "no captions for any event", 50),
        ("vid2seq", "paper", "no captions for any event", 50),
        ("vidchapters", "fixed", "nothing: left out of the mean", 100),
    ],
)
def test_missing_and_unknown_videos_are_reported(
    flavour: Any, profile: Any, counted: str, precision: float, meteor: Meteor, tmp_path: Path
) -> None:
    annotations = write(tmp_path / "a.json", EVENTS | {"b": EVENTS["a"]})
    predictions = write(tmp_path / "p.json", SEGMENTS | {"z": []})
    report = evaluate(predictions, annotations, flavour=flavour, profile=profile, meteor=meteor)
    assert [(p.id, p.counted_as) for p in report.problems] == [("b", counted), ("z", "nothing: left out")]
    assert report.metrics["Precision@0.5"] == pytest.approx(precision)
    with pytest.raises(AnnotationError, match=r"2 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(predictions, annotations, strict=True, meteor=meteor)


def test_videos_without_replies_count_or_are_left_out(meteor: Meteor, tmp_path: Path) -> None:
    """Profile paper leaves them out, as MMDuet's conversion does; profile fixed counts them."""
    annotations = write(tmp_path / "a.json", EVENTS | {"b": EVENTS["a"]})
    predictions = write(tmp_path / "p.jsonl", {"question_id": "a", "model_response_list": TURNS})
    reports = {p: evaluate(predictions, annotations, profile=p, meteor=meteor) for p in PROFILES}
    assert {p: [item["id"] for item in report.items] for p, report in reports.items()} == {
        "paper": ["a"],
        "fixed": ["a", "b"],
    }
    assert reports["fixed"].metrics["Recall@0.5"] == pytest.approx(50)


def test_reversed_segment_is_reported(meteor: Meteor, tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.json", {"a": [{"timestamp": [10, 0], "caption": "A dog runs."}]})
    annotations = write(tmp_path / "a.json", EVENTS)
    swapped = evaluate(predictions, annotations, meteor=meteor)
    ignored = evaluate(predictions, annotations, flavour="densevid2021", meteor=meteor)
    assert [p.counted_as for p in swapped.problems + ignored.problems] == [
        "a segment with swapped ends",
        "a segment that overlaps nothing",
    ]
    assert (swapped.metrics["Precision_Mean"], ignored.metrics["Precision_Mean"]) == (100, 0)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("[]", r"p\.json is empty; check that it is the right file"),
        ({"results": {}}, r"p\.json: results is \{\}, expected an object of segments by video"),
        ({"results": []}, r"p\.json: results is \[\], expected an object of segments by video"),
        ({"a": 3}, r"p\.json, 'a': the list of segments is 3, expected a list"),
        ({"a": [{"caption": "x"}]}, r"p\.json, 'a': missing timestamp in \{'caption': 'x'\}"),
        (
            {"a": [{"timestamp": [0, 1]}]},
            r"p\.json, 'a': missing one of caption, sentence in \{'timestamp': \[0, 1\]\}",
        ),
        (
            {"a": [{"timestamp": [0], "caption": "x"}]},
            r"p\.json, 'a': segment 0: the time span is \[0\], expected \[start, end\] in seconds",
        ),
        (
            {"a": [{"timestamp": [0, "1"], "caption": "x"}]},
            r"p\.json, 'a': segment 0: the end of the time span is '1', expected a finite number",
        ),
        (
            '{"a": [{"timestamp": [0, NaN], "caption": "x"}]}',
            r"p\.json, 'a': segment 0: the end of the time span is nan, expected a finite number",
        ),
        (
            '{"a": [{"timestamp": [0, Infinity], "caption": "x"}]}',
            r"p\.json, 'a': segment 0: the end of the time span is inf, expected a finite number",
        ),
        (
            {"a": [{"timestamp": [0, 1], "caption": None}]},
            r"p\.json, 'a': segment 0: the caption is None, expected a text",
        ),
        ('{"a": [], "a": []}', r"p\.json: key 'a' is listed twice in one object; keep one"),
        (
            {"z": []},
            r"a\.json have no id in common \(for example 'z' and 'a'\); give predictions and annotations of the same split",
        ),
        (
            [{"question_id": "a", "model_response_list": []}] * 2,
            r"p\.json: id 'a' is listed twice; keep one entry per id",
        ),
        ([{"question_id": "a"}], r"p\.json, 'a': missing model_response_list in \{'question_id': 'a'\}"),
        (
            [{"model_response_list": []}],
            r"p\.json, entry 0: missing one of question_id, video, id in \{'model_response_list': \[\]\}",
        ),
        (
            [{"question_id": "a", "model_response_list": [{"role": "user"}]}],
            r"p\.json, 'a': turn 0: missing time in \{'role': 'user'\}",
        ),
        ([["a"]], r"p\.json, entry 0: missing one of question_id, video, id in \['a'\]"),
        ("{", r"p\.json is not JSON"),
    ],
)
def test_invalid_predictions_are_rejected(predictions: Any, message: str, tmp_path: Path) -> None:
    annotations = write(tmp_path / "a.json", EVENTS)
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", predictions), annotations)
    assert "p.json" in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"annotations": []}, r"a\.json has no videos; check that it is the right file"),
        ({"annotations": 3}, r"a\.json: annotations is 3, expected a list"),
        (
            {"annotations": [{"image_id": "a", "segments": [[0, 1]], "pure_cap": "One. Two"}]},
            r"a\.json, 'a': pure_cap splits at \"\. \" into 2 captions for 1 segments",
        ),
        (
            {"annotations": [{"image_id": "a", "segments": [[0, 1]], "pure_cap": "One"}] * 2},
            r"a\.json: id 'a' is listed twice; keep one entry per id",
        ),
        (
            {"a": {"timestamps": [[0, 1]], "sentences": []}},
            r"a\.json, 'a': there are 1 timestamps and 0 sentences, expected as many",
        ),
        ({"a": {"timestamps": [], "sentences": []}}, r"a\.json, 'a': there is no event; add one, or remove the entry"),
        ({"a": {"timestamps": [[0, 1]]}}, r"a\.json, 'a': missing sentences in \{'timestamps': \[\[0, 1\]\]\}"),
        ({"a": [1]}, r"a\.json, 'a': missing timestamps in \[1\]"),
        (
            [{"question_id": "a", "answer": [{"content": "x", "time": 3}]}],
            r"a\.json, 'a': segment 0: the time span is 3, expected \[start, end\] in seconds",
        ),
        ([{"question_id": "a", "answer": []}], r"a\.json, 'a': there is no event; add one, or remove the entry"),
    ],
)
def test_invalid_annotations_are_rejected(annotations: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", SEGMENTS), write(tmp_path / "a.json", annotations))
    assert "a.json" in str(caught.value)


def test_an_unknown_flavour_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="flavour must be one of vid2seq, densevid2018, densevid2021, vidchapters, got 'soda'"
    ):
        evaluate(tmp_path / "p", tmp_path / "a", flavour="soda")
