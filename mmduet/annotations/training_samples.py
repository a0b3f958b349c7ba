"""Annotation files of every supported kind, read into one plain form of training sample; no tensors, no pixels.

Kinds: dense captioning, MAGQA, grounding. Times are seconds from the clip's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmduet.duet import Answer
from mmduet.errors import AnnotationError
from mmduet.events import Query
from mmduet.files import read_json

Kind = Literal["captioning", "qa", "grounding"]
Span = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """One video with what is asked and what is answered. ``queries`` empty: an instruction is drawn when it is used."""

    kind: Kind
    video: str
    queries: tuple[Query, ...] = ()
    answers: tuple[Answer, ...] = ()
    spans: tuple[Span, ...] = ()


def read_dense_captioning(path: str | Path) -> list[Sample]:
    """``{video: {annotation: [{time, text, timespan, learn?}]}}``."""
    samples = []
    for video, entry in read_json(path, dict).items():
        where = f"{path}, video {video!r}"
        with _told(where):
            answers = [_answer(a, "text", where) for a in _field(entry, "annotation", where)]
        samples.append(Sample("captioning", video, answers=tuple(answers)))
    return samples


def read_magqa(path: str | Path) -> list[Sample]:
    """``[{video_uid, video_start_time?, conversation: [{role, time, content, timespan?, learn?}]}]``."""
    samples = []
    for i, entry in enumerate(read_json(path, list)):
        where = f"{path}, entry {i}"
        with _told(where):
            samples.append(_conversation(entry, where))
    return samples


def read_grounding(path: str | Path) -> list[Sample]:
    """``[{video_uid, query, timestamps: [[s, e], ...]}]``."""
    samples = []
    for i, entry in enumerate(read_json(path, list)):
        where = f"{path}, entry {i}"
        with _told(where):
            spans = tuple((float(s), float(e)) for s, e in _field(entry, "timestamps", where))
            query = Query(_field(entry, "query", where))
            samples.append(Sample("grounding", _field(entry, "video_uid", where), (query,), spans=spans))
    return samples


def crop(sample: Sample, start: float, end: float) -> Sample:
    """The sample as seen by someone who watches only [start, end] s, its times counted from ``start``.

    An action that had begun before ``start`` is kept as something not to be learned; queries asked before it stand at 0.
    """
    queries = tuple(Query(q.text, max(0.0, q.time - start)) for q in sample.queries if q.time < end)
    answers = tuple(
        Answer(
            a.time - start, a.text, (a.timespan[0] - start, a.timespan[1] - start), a.learn and a.timespan[0] >= start
        )
        for a in sample.answers
        if a.time >= start and a.timespan[0] < end
    )
    spans = tuple((s - start, e - start) for s, e in sample.spans if e > start and s < end)
    return Sample(sample.kind, sample.video, queries, answers, spans)


def _conversation(entry: dict[str, Any], where: str) -> Sample:
    turns = _field(entry, "conversation", where)
    offset = float(entry.get("video_start_time", 0.0))
    users = [t for t in turns if _field(t, "role", where) == "user"]
    queries = [Query(_field(t, "content", where), float(_field(t, "time", where)) - offset) for t in users]
    answers = [_answer(t, "content", where, offset) for t in turns if t["role"] == "assistant"]
    return Sample("qa", _field(entry, "video_uid", where), tuple(queries), tuple(answers))


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Values of the wrong kind become an error that says where they are."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(f"{where}: a value cannot be used ({error}); is the file of another format?") from error


def _answer(turn: dict[str, Any], text: str, where: str, offset: float = 0.0) -> Answer:
    time = float(_field(turn, "time", where)) - offset
    span: Sequence[float] = turn.get("timespan") or (time + offset, time + offset)
    return Answer(
        time,
        _field(turn, text, where),
        (float(span[0]) - offset, float(span[1]) - offset),
        bool(turn.get("learn", True)),
    )


def _field(entry: dict[str, Any], name: str, where: str) -> Any:
    try:
        return entry[name]
    except (KeyError, TypeError):
        raise AnnotationError(f"{where}: there is no {name!r}") from None
