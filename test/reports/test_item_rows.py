"""The contents of an item, extracted from each of the supported file formats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import prediction_line, write_json_file, write_json_lines

from mmduet.reports.item_rows import ItemContent, parse_item
from mmduet.reports.row_index import RowIndex
from mmduet.spans import CaptionedSpan, Span
from mmduet.viz.item_timeline import ScoreCurve, Turn

Json = dict[str, Any]


def content_of(tmp_path: Path, content: object, key: str, benchmark: str = "x") -> ItemContent:
    path = (
        write_json_lines(tmp_path / "f.jsonl", content)
        if isinstance(content, tuple)
        else write_json_file(tmp_path / "f", content)
    )
    return RowIndex([path], benchmark).content_of(key)


def test_mmduet_predictions(tmp_path: Path) -> None:
    frames = [
        {"time": 0.5, "relevance_score": 0.25, "informative_score": 0.5},
        {"video_time": 1.0, "relevance_score": [0.2, 0.8]},
        {"time": "soon", "relevance_score": 1.0},
    ]
    row = {**prediction_line("a", (2.0, "x"), (-1, "y")), "debug_data": frames}
    content = content_of(tmp_path, (row,), "a")
    assert content.turns == (Turn(0.0, True, "what?"), Turn(2.0, False, "x"), Turn(-1.0, False, "y"))
    assert [(c.name, list(c.times), list(c.values)) for c in content.curves] == [
        ("relevance", [0.5, 1.0], [0.25, 0.8]),
        ("informative", [0.5], [0.5]),
    ]
    assert content.duration_seconds == content.end_seconds == 30.0


def test_qvhighlights_files(tmp_path: Path) -> None:
    gold = {
        "qid": 3, "query": "a cat", "vid": "v_0.0_10.0", "duration": 10, "relevant_windows": [[2, 6]],
        "relevant_clip_ids": [1, 2], "saliency_scores": [[4, 4, 4], [0, 1, 2]],
    }  # fmt: skip
    content = content_of(tmp_path, (gold,), "3")
    assert (content.question, content.videos, content.duration_seconds) == ("a cat", ("v_0.0_10.0",), 10)
    assert content.spans == (CaptionedSpan(2, 6, ""),)
    assert content.ratings == ((Span(2, 4), 1.0), (Span(4, 6), 0.25))
    windows = [[k, k + 1, k / 10] for k in range(9)]
    predicted = content_of(
        tmp_path, ({"qid": 3, "pred_relevant_windows": windows, "pred_saliency_scores": [0.5, -1]},), "3"
    )
    assert predicted.spans[:2] == (CaptionedSpan(0, 1, "score 0"), CaptionedSpan(1, 2, "score 0.1"))
    assert len(predicted.spans) == 5
    assert predicted.curves == (ScoreCurve("saliency", [0.0, 2.0], (0.5, -1.0), 2.0),)
    assert predicted.end_seconds == 5.0


@pytest.mark.parametrize(
    ("benchmark", "content", "key", "expected"),
    [
        (
            "grounding",
            {"annotations": [{"image_id": "v.mp4", "caption": "he runs", "timestamp": [3, 9.5], "id": 0}]},
            "0",
            ItemContent("he runs", ("v.mp4",), spans=(CaptionedSpan(3, 9.5, ""),)),
        ),
        ("grounding", {"12": {"timestamp": [[5, 7]]}}, "12", ItemContent(spans=(CaptionedSpan(5, 7, ""),))),
        ("grounding", {"12": {"timestamp": []}}, "12", ItemContent()),
        (
            "dense_captioning",
            {"v": [{"timestamp": [1, 2], "caption": "cut"}, {"timestamp": [9, 4], "caption": "mix"}]},
            "v",
            ItemContent(spans=(CaptionedSpan(1, 2, "cut"), CaptionedSpan(4, 9, "mix"))),
        ),
        (
            "dense_captioning",
            {"results": {"v": [{"timestamp": [1, 2], "sentence": " cut"}]}},
            "v",
            ItemContent(spans=(CaptionedSpan(1, 2, "cut"),)),
        ),
        (
            "dense_captioning",
            {"annotations": [{"image_id": "v", "segments": [[0, 1], [2, 3]], "pure_cap": "cut. mix"}]},
            "v",
            ItemContent(videos=("v",), spans=(CaptionedSpan(0, 1, "cut"), CaptionedSpan(2, 3, "mix"))),
        ),
        (
            "dense_captioning",
            {"v": {"duration": 9.5, "timestamps": [[0, 1]], "sentences": ["cut"]}},
            "v",
            ItemContent(duration_seconds=9.5, spans=(CaptionedSpan(0, 1, "cut"),)),
        ),
        (
            "proactive",
            [{"question_id": "a", "answer": [{"content": "now", "related_timespan": [1, 2], "reply_timespan": [1, 3]}]}],
            "a",
            ItemContent(spans=(CaptionedSpan(1, 2, "now"),)),
        ),
        (
            "magqa",
            [{"question_id": "a", "conversation": [
                {"role": "user", "content": "what?", "time": 0.5},
                {"role": "assistant", "content": "this", "timespan": [1, 2], "time": 2}]}],
            "a",
            ItemContent("what?", spans=(CaptionedSpan(1, 2, "this"),), turns=(Turn(0.5, True, "what?"),)),
        ),
        ("captions", {"annotations": [{"image_id": 5, "id": 1, "caption": "a"}, {"image_id": 5, "id": 2, "caption": "b"}]}, "5",
         ItemContent(videos=("5",), texts=("a", "b"))),
        ("captions", {"x": "a dog"}, "x", ItemContent(texts=("a dog",))),
        ("captions", {"x": ["a dog", "a cat"]}, "x", ItemContent(texts=("a dog", "a cat"))),
        ("captions", [{"id": "x", "prediction": "a dog"}], "x", ItemContent(texts=("a dog",))),
        ("audio_description", {"film": [{"start": 1, "end": 2, "text": "she runs"}]}, "film",
         ItemContent(spans=(CaptionedSpan(1, 2, "she runs"),))),
        ("audio_description", [{"movie": "film", "start": 1, "end": 2, "text": "she runs"}], "film",
         ItemContent(videos=("film",), spans=(CaptionedSpan(1, 2, "she runs"),))),
        ("ovo", {"backward": [{"id": 4, "task": "EPM", "response": "B", "ground_truth": "A"}]}, "EPM 4",
         ItemContent(texts=("B",), gold_texts=("A",))),
        ("ovo", {"forward": [
            {"id": 4, "task": "SSR", "test_info": [{"response": None, "type": 1}, {"response": "2", "count": 3}]}]},
         "SSR 4", ItemContent(texts=("(no answer)", "2"), gold_texts=("Yes", "3"))),
        ("ovo", [{"id": 4, "task": "EPM", "question": "Which?", "options": ["red", "blue"], "video": "a/b.mp4"}], "EPM 4",
         ItemContent("Which?\nred\nblue", ("a/b.mp4",))),
    ],
)  # fmt: skip
def test_supported_formats(tmp_path: Path, benchmark: str, content: object, key: str, expected: ItemContent) -> None:
    assert content_of(tmp_path, content, key, benchmark) == expected


def test_folder_of_results_is_read_as_one_file(tmp_path: Path) -> None:
    for task in ("EPM", "ASI"):
        write_json_file(tmp_path / f"{task}.json", {"backward": [{"id": 1, "task": task, "response": task}]})
    files = RowIndex([tmp_path], "ovo")
    assert [files.content_of(f"{task} 1").texts for task in ("EPM", "ASI")] == [("EPM",), ("ASI",)]
    assert not files.has("1")


def test_values_that_cannot_be_drawn_are_left_out(tmp_path: Path) -> None:
    row = {
        "question_id": 1, "duration": 1e300, "timestamps": [[0, 1e8], [1, 2], [1, math.nan], [3], "no"], "video": 5,
        "query": None, "pred_saliency_scores": [1, "high"], "debug_data": [{"time": 1e9, "relevance_score": 1}],
    }  # fmt: skip
    assert content_of(tmp_path, [row], "1") == ItemContent(videos=("5",), spans=(CaptionedSpan(1, 2, ""),))


FIELDS = [
    "question_id", "query", "question", "caption", "video", "duration", "timestamp", "timestamps", "sentences", "segments",
    "pure_cap", "relevant_windows", "pred_relevant_windows", "pred_saliency_scores", "relevant_clip_ids", "saliency_scores",
    "answer", "conversation", "model_response_list", "debug_data", "time", "content", "role", "relevance_score", "start", "end",
    "text", "response", "test_info", "type", "count", "options", "timespan",
]  # fmt: skip
numbers = st.one_of(st.floats(), st.integers(), st.sampled_from([0, 1, -1, 10**400, 1e-320, 1e308, True]))
leaves = st.one_of(numbers, st.none(), st.text(max_size=3), st.sampled_from(["user", "assistant"]))
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(FIELDS), values), st.sampled_from(["grounding", "magqa", "ovo", "captions"]))
@settings(max_examples=150)
def test_any_row_is_accepted(row: Json, benchmark: str) -> None:
    content = parse_item([row], benchmark)
    assert math.isfinite(content.end_seconds)
    assert all(span.start <= span.end for span in content.spans)
    assert all(isinstance(text, str) for text in (*content.texts, *content.gold_texts, *content.videos))
