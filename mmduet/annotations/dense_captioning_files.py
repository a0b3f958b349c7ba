"""Read captioned segments and events of dense captioning, in three kinds of files that are distinguished by their content.

TimeChat and Vid2Seq: ``{id: [{timestamp, caption}]}`` against ``{annotations: [{image_id, segments, pure_cap}]}``.
densevid_eval (ActivityNet): ``{results: {id: [{timestamp, sentence}]}}`` against ``{id: {timestamps, sentences}}``.
MMDuet: a line ``{question_id, model_response_list}`` per video against ``[{question_id, answer: [{content, time}]}]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.json_files import as_rows, read_json_content, rows_by_id
from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_list,
    as_span,
    as_text,
    get_field,
    list_field,
    short_repr,
    text_field,
    value_errors,
)
from mmduet.annotations.prediction_lines import has_frame_scores, parse_frame_scores, parse_turns
from mmduet.errors import AnnotationError
from mmduet.options import Profile
from mmduet.spans import CaptionedSpan, FrameScores

Segments = tuple[CaptionedSpan, ...]
CAPTION_FIELDS = ("caption", "sentence")
STREAM_ID_FIELDS = ("question_id", "video", "id")


@dataclass(frozen=True)
class StreamedReplies:
    """The replies of a streaming model to one video.

    ``replies`` are (time, text) in the order of the file; ``query_time`` is the time of the first query; ``informative`` has
    the score of every frame, or no frames where the file has none.
    """

    replies: tuple[tuple[float, str], ...]
    query_time: float
    informative: FrameScores


@dataclass(frozen=True)
class DenseCaptionPredictions:
    """The predictions of one file, by video: either ``segments`` or, from a streaming model, ``streams``."""

    segments: Mapping[str, Segments]
    streams: Mapping[str, StreamedReplies]

    @property
    def is_streamed(self) -> bool:
        """Whether the file holds replies, from which segments are still to be derived."""
        return bool(self.streams)


def read_predictions(path: Path) -> DenseCaptionPredictions:
    """Return the predictions of any of the three kinds. Raises ``AnnotationError`` naming the entry."""
    content = as_rows(read_json_content(path), "model_response_list")
    if isinstance(content, list):
        streams = {}
        for name, row in rows_by_id(content, path, *STREAM_ID_FIELDS).items():
            with annotation_errors(f"{path}, {name!r}"):
                streams[name] = _parse_stream(row)
        return DenseCaptionPredictions({}, streams)
    table = content.get("results", content)
    if not isinstance(table, dict) or not table:
        raise AnnotationError(f"{path}: results is {short_repr(table)}, expected an object of segments by video")
    segments = {}
    for name, rows in table.items():
        with annotation_errors(f"{path}, {name!r}"):
            segments[name] = _parse_predicted_segments(rows)
    return DenseCaptionPredictions(segments, {})


def read_events(path: Path, profile: Profile = "fixed") -> dict[str, Segments]:
    """Return the annotated events of each video, from one set of references.

    The profile ``paper`` changes captions as the original evaluators do. Raises ``AnnotationError`` naming the entry.
    """
    videos: dict[str, Segments] = {}
    for name, row, parse in _event_rows(as_rows(read_json_content(path), "question_id"), path):
        with annotation_errors(f"{path}, {name!r}"):
            videos[name] = parse(row, profile)
            if not videos[name]:
                raise InvalidValueError("there is no event; add one, or remove the entry")
    return videos


def _event_rows(content: Json | list[Any], path: Path) -> Iterator[tuple[str, Any, Callable[[Any, Profile], Segments]]]:
    """Yield the id of each video, its row, and the parser of the file's kind."""
    if isinstance(content, list):
        yield from ((name, row, _parse_mmduet_events) for name, row in rows_by_id(content, path, "question_id").items())
    elif "annotations" in content:
        with annotation_errors(str(path)):
            rows = rows_by_id(list_field(content, "annotations"), path, "image_id")
        if not rows:
            raise AnnotationError(f"{path} has no videos; check that it is the right file")
        yield from ((name, row, _parse_vid2seq_events) for name, row in rows.items())
    else:
        yield from ((name, row, _parse_densevid_events) for name, row in content.items())


def _parse_vid2seq_events(row: Json, profile: Profile) -> Segments:
    """Parse Vid2Seq's events, whose captions are joined by ". ": the full stop is restored where the join removed it."""
    spans = list_field(row, "segments")
    captions = text_field(row, "pure_cap").split(". ")
    if len(captions) != len(spans):
        raise InvalidValueError(
            f'pure_cap splits at ". " into {len(captions)} captions for {len(spans)} segments; '
            'write ", " for a ". " inside a caption'
        )
    ended = [text if profile == "fixed" and text.endswith(".") else f"{text}." for text in captions]
    return _parse_segments(spans, ended)


def _parse_mmduet_events(row: Json, profile: Profile) -> Segments:
    """Parse MMDuet's events.

    Its evaluation first converts them to Vid2Seq's form, which turns a full stop inside a caption into a comma.
    """
    answers = list_field(row, "answer")
    captions = [text_field(answer, "content") for answer in answers]
    if profile == "paper":
        captions = [text.replace(". ", ", ") + "." for text in captions]
    return _parse_segments([get_field(answer, "time") for answer in answers], captions)


def _parse_densevid_events(row: Any, profile: Profile) -> Segments:
    """Parse densevid_eval's events, which are the same under both profiles."""
    spans, sentences = list_field(row, "timestamps"), list_field(row, "sentences")
    if len(spans) != len(sentences):
        raise InvalidValueError(f"there are {len(spans)} timestamps and {len(sentences)} sentences, expected as many")
    return _parse_segments(spans, sentences)


def _parse_predicted_segments(rows: object) -> Segments:
    """Parse ``[{timestamp: [start, end], caption | sentence}]``."""
    segments = as_list(rows, "the list of segments")
    return _parse_segments(
        [get_field(row, "timestamp") for row in segments], [get_field(row, *CAPTION_FIELDS) for row in segments]
    )


def _parse_segments(spans: Sequence[object], captions: Sequence[object]) -> Segments:
    """Combine spans and captions; a span may end before it starts, which is for the evaluator to judge."""
    segments = []
    for i, (span, caption) in enumerate(zip(spans, captions, strict=True)):
        with value_errors(f"segment {i}"):
            start, end = as_span(span, "the time span", allow_reversed=True)
            segments.append(CaptionedSpan(start, end, as_text(caption, "the caption")))
    return tuple(segments)


def _parse_stream(row: Json) -> StreamedReplies:
    turns = parse_turns(row)
    for i, turn in enumerate(turns):
        if not math.isfinite(turn.time):
            raise InvalidValueError(f"turn {i}: time is {turn.time}, expected a finite number")
    has_scores = has_frame_scores(row, "informative_score")
    return StreamedReplies(
        replies=tuple((turn.time, turn.text) for turn in turns if turn.role == "assistant"),
        query_time=min((turn.time for turn in turns if turn.role == "user"), default=0.0),
        informative=parse_frame_scores(row, "informative_score") if has_scores else FrameScores((), ()),
    )
