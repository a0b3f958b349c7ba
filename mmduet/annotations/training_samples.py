"""The plain type of a training sample, and readers of MMDuet's annotations: dense captioning, MAGQA, grounding.

Times are seconds from the clip's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmduet.annotations.json_files import read_json_list, read_json_table
from mmduet.annotations.json_values import (
    Json,
    annotation_errors,
    as_objects,
    as_span,
    as_spans,
    get_field,
    number_field,
    text_field,
    value_errors,
)
from mmduet.events import Query
from mmduet.spans import AnnotatedReply, Span

SampleKind = Literal["captioning", "qa", "grounding", "conversation"]


@dataclass(frozen=True)
class Sample:
    """One video with its queries and annotated replies. Without ``queries``, training draws an instruction.

    The kind ``conversation`` has as many queries as answers, which alternate after the last frame.
    """

    kind: SampleKind
    video: str
    queries: tuple[Query, ...] = ()
    answers: tuple[AnnotatedReply, ...] = ()
    spans: tuple[Span, ...] = ()


def read_dense_captioning(path: str | Path) -> list[Sample]:
    """Return the samples of ``{video: {annotation: [{time, text, timespan?, learn?}]}}``.

    Raises ``AnnotationError`` naming the video.
    """
    samples = []
    for video, entry in read_json_table(Path(path), allow_empty=True).items():
        with annotation_errors(f"{path}, video {video!r}"):
            turns = as_objects(get_field(entry, "annotation"), "annotation")
            samples.append(Sample("captioning", video, answers=_parse_replies(turns, "text")))
    return samples


def read_magqa(path: str | Path) -> list[Sample]:
    """Return the samples of ``[{video_uid, video_start_time?, conversation: [{role, time, content, timespan?, learn?}]}]``.

    Raises ``AnnotationError`` naming the entry.
    """
    return _read_entries(Path(path), _parse_conversation)


def read_grounding(path: str | Path) -> list[Sample]:
    """Return the samples of ``[{video_uid, query, timestamps: [[start, end], ...]}]``; a query may have no span.

    Raises ``AnnotationError`` naming the entry.
    """
    return _read_entries(Path(path), _parse_grounding)


def crop(sample: Sample, start: float, end: float) -> Sample:
    """Return the sample as a viewer of only [start, end] s has it, with times counted from ``start``.

    An event that began before ``start`` is kept, but not learned. Queries from before ``start`` move to 0.
    """
    queries = tuple(Query(q.text, max(0.0, q.time - start)) for q in sample.queries if q.time < end)
    answers = tuple(
        AnnotatedReply(
            a.time - start,
            a.text,
            Span(a.timespan[0] - start, a.timespan[1] - start),
            a.learn and a.timespan[0] >= start,
        )
        for a in sample.answers
        if a.time >= start and a.timespan[0] < end
    )
    spans = tuple(Span(s - start, e - start) for s, e in sample.spans if e > start and s < end)
    return Sample(sample.kind, sample.video, queries, answers, spans)


def visible_part(sample: Sample, start: float, end: float) -> Sample:
    """Return the sample as a viewer of only the frames from ``start`` to ``end`` s has it, with unchanged times.

    The frames at both ends are included, so they have the same labels as in the whole sample. An event that began before
    ``start`` is kept, but not learned. Queries from before ``start`` are read before the first frame. A conversation is
    about the whole video and stays as it is.
    """
    if sample.kind == "conversation":
        return sample
    queries = tuple(query for query in sample.queries if query.time <= end)
    answers = tuple(
        replace(answer, learn=answer.learn and answer.timespan[0] >= start)
        for answer, turn_start in zip(sample.answers, _turn_starts(sample), strict=True)
        if start <= answer.time and (answer.time <= end or max(turn_start, answer.timespan[0]) <= end)
    )
    spans = tuple(span for span in sample.spans if span[1] >= start and span[0] <= end)
    return replace(sample, queries=queries, answers=answers, spans=spans)


def _turn_starts(sample: Sample) -> list[float]:
    """Return for each answer when the stream turn that it ends begins: at the previous answer or the last query before it."""
    previous = [float("-inf"), *(answer.time for answer in sample.answers)]
    return [
        max([before, *(query.time for query in sample.queries if query.time <= answer.time)])
        for before, answer in zip(previous, sample.answers, strict=False)
    ]


def _read_entries(path: Path, parse: Callable[[object], Sample]) -> list[Sample]:
    samples = []
    for i, entry in enumerate(read_json_list(path, allow_empty=True)):
        with annotation_errors(f"{path}, entry {i}"):
            samples.append(parse(entry))
    return samples


def _parse_conversation(entry: object) -> Sample:
    video, turns = text_field(entry, "video_uid"), as_objects(get_field(entry, "conversation"), "conversation")
    offset = number_field(entry, "video_start_time") if isinstance(entry, dict) and "video_start_time" in entry else 0.0
    roles = [get_field(turn, "role") for turn in turns]
    queries = [
        Query(text_field(turn, "content"), number_field(turn, "time") - offset)
        for role, turn in zip(roles, turns, strict=True)
        if role == "user"
    ]
    replies = [turn for role, turn in zip(roles, turns, strict=True) if role == "assistant"]
    return Sample("qa", video, tuple(queries), _parse_replies(replies, "content", offset))


def _parse_grounding(entry: object) -> Sample:
    spans = as_spans(get_field(entry, "timestamps"), "timestamps")
    return Sample("grounding", text_field(entry, "video_uid"), (Query(text_field(entry, "query")),), spans=spans)


def _parse_replies(turns: Iterable[Json], field: str, offset: float = 0.0) -> tuple[AnnotatedReply, ...]:
    replies = []
    for i, turn in enumerate(turns):
        with value_errors(f"reply {i}"):
            replies.append(_parse_reply(turn, field, offset))
    return tuple(replies)


def _parse_reply(turn: Json, field: str, offset: float) -> AnnotatedReply:
    time = number_field(turn, "time")
    span = as_span(turn["timespan"], "timespan") if turn.get("timespan") else Span(time, time)
    return AnnotatedReply(
        time - offset,
        text_field(turn, field),
        Span(span.start - offset, span.end - offset),
        bool(turn.get("learn", True)),
    )
