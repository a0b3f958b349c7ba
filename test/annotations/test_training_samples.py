"""Training samples: every file format, error messages with file and entry, and crops."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmduet.annotations.training_samples import Sample, crop, read_dense_captioning, read_grounding, read_magqa
from mmduet.errors import AnnotationError
from mmduet.events import Query
from mmduet.spans import AnnotatedReply

DENSE = {
    "a.mp4": {
        "annotation": [{"time": 3, "text": "it enters", "timespan": [1, 4]}, {"time": 5, "text": "x", "learn": False}]
    }
}
MAGQA = [
    {
        "video_uid": "b.mp4", "video_start_time": 10,
        "conversation": [
            {"role": "user", "time": 10, "content": "what?"},
            {"role": "assistant", "time": 13.5, "content": "this", "timespan": [12, 14]},
            {"role": "assistant", "time": 20, "content": "that"},
        ],
    }
]  # fmt: skip
GROUNDING = [
    {"video_uid": "c.mp4", "query": "red?", "timestamps": [[1, 2], [3.5, 4]]},
    {"video_uid": "d.mp4", "query": "no", "timestamps": []},
]


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_dense_captioning_samples(tmp_path: Path) -> None:
    (sample,) = read_dense_captioning(write(tmp_path / "x.json", DENSE))
    assert sample == Sample(
        "captioning",
        "a.mp4",
        (),
        (AnnotatedReply(3.0, "it enters", (1.0, 4.0)), AnnotatedReply(5.0, "x", (5.0, 5.0), learn=False)),
    )


def test_magqa_times_are_relative_to_the_clip(tmp_path: Path) -> None:
    (sample,) = read_magqa(write(tmp_path / "x.json", MAGQA))
    assert sample == Sample(
        "qa",
        "b.mp4",
        (Query("what?", 0.0),),
        (AnnotatedReply(3.5, "this", (2.0, 4.0)), AnnotatedReply(10.0, "that", (10.0, 10.0))),
    )


def test_grounding_samples(tmp_path: Path) -> None:
    first, second = read_grounding(write(tmp_path / "x.json", GROUNDING))
    assert first == Sample("grounding", "c.mp4", (Query("red?"),), spans=((1.0, 2.0), (3.5, 4.0)))
    assert second.spans == ()


READERS: list[Callable[[Path], list[Sample]]] = [read_dense_captioning, read_magqa, read_grounding]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{no", r"x\.json is not JSON"),
        ("3", r"x\.json holds a int, expected an object or a list"),
        ("\x00", r"x\.json is not JSON"),
    ],
)
def test_unreadable_files_are_rejected(
    tmp_path: Path, read: Callable[[Path], list[Sample]], content: str, error: str
) -> None:
    with pytest.raises(AnnotationError, match=error):
        read(write(tmp_path / "x.json", content))
    with pytest.raises(AnnotationError, match=r"none\.json does not exist; check the path"):
        read(tmp_path / "none.json")


def test_files_of_another_format_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"x\.json holds a list, expected an object; check that it has the expected"
    ):
        read_dense_captioning(write(tmp_path / "x.json", GROUNDING))
    with pytest.raises(
        AnnotationError, match=r"x\.json holds an object, expected a list; check that it has the expected"
    ):
        read_grounding(write(tmp_path / "x.json", DENSE))


@pytest.mark.parametrize("missing", ["video_uid", "conversation"])
def test_errors_of_magqa_name_file_entry_and_field(tmp_path: Path, missing: str) -> None:
    entries = json.loads(json.dumps([*MAGQA, *MAGQA]))
    del entries[1][missing]
    with pytest.raises(AnnotationError, match=rf"x\.json, entry 1: missing {missing} in \{{"):
        read_magqa(write(tmp_path / "x.json", entries))


@pytest.mark.parametrize("missing", ["time", "content"])
def test_errors_of_magqa_replies_name_the_reply(tmp_path: Path, missing: str) -> None:
    entries = json.loads(json.dumps(MAGQA))
    del entries[0]["conversation"][2][missing]
    with pytest.raises(AnnotationError, match=rf"x\.json, entry 0: reply 1: missing {missing} in \{{"):
        read_magqa(write(tmp_path / "x.json", entries))


@pytest.mark.parametrize("missing", ["time", "text"])
def test_errors_of_dense_captioning_name_the_video(tmp_path: Path, missing: str) -> None:
    videos = json.loads(json.dumps(DENSE))
    del videos["a.mp4"]["annotation"][0][missing]
    with pytest.raises(AnnotationError, match=rf"x\.json, video 'a\.mp4': reply 0: missing {missing} in \{{"):
        read_dense_captioning(write(tmp_path / "x.json", videos))


@pytest.mark.parametrize("missing", ["video_uid", "query", "timestamps"])
def test_errors_of_grounding_name_the_entry(tmp_path: Path, missing: str) -> None:
    entries = json.loads(json.dumps(GROUNDING))
    del entries[1][missing]
    with pytest.raises(AnnotationError, match=rf"x\.json, entry 1: missing {missing} in \{{"):
        read_grounding(write(tmp_path / "x.json", entries))


@pytest.mark.parametrize(
    ("read", "value", "error"),
    [
        (
            read_dense_captioning,
            {"a": {"annotation": [{"time": "soon", "text": "x"}]}},
            "x.json, video 'a': reply 0: time is 'soon', expected a finite number",
        ),
        (
            read_dense_captioning,
            {"a": {"annotation": [{"time": 1, "text": "x", "timespan": [1]}]}},
            "x.json, video 'a': reply 0: timespan is [1], expected [start, end] in seconds",
        ),
        (
            read_magqa,
            [{"video_uid": "a", "conversation": [{"time": 1, "content": "x"}]}],
            "x.json, entry 0: missing role in {'time': 1, 'content': 'x'}",
        ),
        (
            read_grounding,
            [{"video_uid": "a", "query": "q", "timestamps": [1, 2]}],
            "x.json, entry 0: timestamps, number 0, is 1, expected [start, end] in seconds",
        ),
    ],
)
def test_invalid_values_are_rejected(
    tmp_path: Path, read: Callable[[Path], list[Sample]], value: Any, error: str
) -> None:
    with pytest.raises(AnnotationError, match=re.escape(error)):
        read(write(tmp_path / "x.json", value))


# crops

WHOLE = Sample(
    "qa", "v", (Query("early", 1.0), Query("late", 6.0), Query("never", 9.0)),
    (
        AnnotatedReply(2.0, "over", (1.0, 2.0)), AnnotatedReply(4.0, "begun", (2.5, 4.5)),
        AnnotatedReply(6.0, "inside", (5.0, 6.5)),
        AnnotatedReply(9.5, "after", (9.0, 9.9)),
    ),
    ((0.0, 2.0), (2.5, 4.0), (7.5, 9.0), (8.5, 9.0)),
)  # fmt: skip


def test_times_of_a_crop_are_relative_to_its_start() -> None:
    cut = crop(WHOLE, 3.0, 8.0)
    assert cut.queries == (Query("early", 0.0), Query("late", 3.0))
    assert cut.answers == (
        AnnotatedReply(1.0, "begun", (-0.5, 1.5), learn=False),  # it began before the crop
        AnnotatedReply(3.0, "inside", (2.0, 3.5)),
    )
    assert cut.spans == ((-0.5, 1.0), (4.5, 6.0))


def test_a_crop_of_the_whole_sample_is_equal() -> None:
    assert crop(WHOLE, 0.0, 10.0) == WHOLE


def test_replies_that_are_not_learned_stay_so() -> None:
    sample = Sample("qa", "v", answers=(AnnotatedReply(2.0, "x", (1.0, 2.0), learn=False),))
    assert not crop(sample, 0.5, 5.0).answers[0].learn
