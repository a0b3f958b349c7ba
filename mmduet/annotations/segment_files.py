"""Reads captioned segments and events from the three kinds of files that dense captioning has; told apart by their content.

TimeChat and Vid2Seq: ``{id: [{timestamp, caption}]}`` against ``{annotations: [{image_id, segments, pure_cap}]}``.
densevid_eval (ActivityNet): ``{results: {id: [{timestamp, sentence}]}}`` against ``{id: {timestamps, sentences}}``.
MMDuet: a line ``{question_id, model_response_list}`` a video against ``[{question_id, answer: [{content, time}]}]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.caption_files import (
    as_id,
    as_list,
    as_number,
    as_text,
    field,
    once,
    read_entries,
    shown,
)
from mmduet.errors import AnnotationError
from mmduet.options import Profile
from mmduet.tasks.dense_captioning import Segment, paper_segments_of, segments_of

Segments = tuple[Segment, ...]
CAPTIONS = ("caption", "sentence")
STREAM_IDS = ("question_id", "video", "id")


@dataclass(frozen=True)
class Predicted:
    """What was predicted for each video; ``streamed`` where segments were made of replies."""

    videos: Mapping[str, Segments]
    streamed: bool = False


def read_predictions(path: Path, profile: Profile = "fixed") -> Predicted:
    """Predictions of any of the three kinds; raises ``AnnotationError`` naming the entry.

    Replies become segments by ``segments_of``, under ``paper`` by ``paper_segments_of``.
    """
    entries = read_entries(path)
    if isinstance(entries, dict) and "model_response_list" in entries:
        entries = [entries]  # JSON lines that are but one
    if isinstance(entries, list):
        return Predicted(_streamed(entries, path, profile), streamed=True)
    table = entries.get("results", entries)
    if not isinstance(table, dict) or not table:
        raise AnnotationError(f"{path}: results hold {shown(table)}; they map a video to its segments")
    return Predicted({name: _predicted_segments(rows, f"{path}, {name!r}") for name, rows in table.items()})


def read_events(path: Path, profile: Profile = "fixed") -> dict[str, Segments]:
    """The events of each video, by one set of references; raises ``AnnotationError`` naming the entry."""
    entries = read_entries(path)
    if isinstance(entries, list):
        pairs = [_answered(row, f"{path}, entry {i}", profile) for i, row in enumerate(entries)]
    elif "annotations" in entries:
        rows = as_list(entries["annotations"], f"{path}, annotations")
        pairs = [_annotated(row, f"{path}, annotations, entry {i}", profile) for i, row in enumerate(rows)]
    else:
        pairs = [(name, _timed_sentences(row, f"{path}, {name!r}")) for name, row in entries.items()]
    once((name for name, _ in pairs), path)
    for name, events in pairs:
        if not events:
            raise AnnotationError(f"{path}: {name!r} has no event; remove it, or give it one")
    if not pairs:
        raise AnnotationError(f"{path} holds no video; is it the right file?")
    return dict(pairs)


def _streamed(rows: Sequence[Any], path: Path, profile: Profile) -> dict[str, Segments]:
    """MMDuet's raw predictions."""
    videos: dict[str, Segments] = {}
    names: list[str] = []
    for i, row in enumerate(rows):
        where = f"{path}, entry {i}"
        names.append(as_id(field(row, STREAM_IDS, where), where))
        replies = field(row, ("model_response_list",), where)
        videos[names[-1]] = _replies_as_segments(replies, row.get("debug_data") or [], where, profile)
    once(names, path)
    return videos


def _replies_as_segments(turns: Any, frames: Any, where: str, profile: Profile) -> Segments:
    turns = [_turn(turn, f"{where}, turn {i}") for i, turn in enumerate(as_list(turns, where))]
    replies = [(time, text) for role, time, text in turns if role == "assistant"]
    asked = [time for role, time, _ in turns if role == "user"]
    if profile == "paper":
        return tuple(paper_segments_of(replies))
    return tuple(segments_of(replies, min(asked, default=0.0), _informative(as_list(frames, where), where)))


def _informative(frames: Sequence[Any], where: str) -> list[tuple[float, float]]:
    """(time, score) of every frame; none where no frame has the score.

    As everywhere, the reference's own files are read too: ``video_time``, and the probabilities of no and yes as a pair.
    """
    if not any(isinstance(frame, dict) and "informative_score" in frame for frame in frames):
        return []
    scores = []
    for i, frame in enumerate(frames):
        place = f"{where}, frame {i}"
        time = as_number(field(frame, ("time", "video_time"), place), place)
        score = frame.get("informative_score", 0.0)
        scores.append((time, as_number(score[1] if isinstance(score, list) and len(score) == 2 else score, place)))
        if i and time <= scores[-2][0]:
            raise AnnotationError(f"{place} is at {time} s, the one before it at {scores[-2][0]} s; times must grow")
    return scores


def _turn(turn: Any, where: str) -> tuple[str, float, str]:
    role = as_text(field(turn, ("role",), where), where)
    return role, as_number(field(turn, ("time",), where), where), as_text(field(turn, ("content",), where), where)


def _predicted_segments(rows: Any, where: str) -> Segments:
    """``[{timestamp: [s, e], caption | sentence}]``."""
    return tuple(
        _segment(field(row, ("timestamp",), place), field(row, CAPTIONS, place), place)
        for i, row in enumerate(as_list(rows, where))
        for place in [f"{where}, segment {i}"]
    )


def _annotated(row: Any, where: str, profile: Profile) -> tuple[str, Segments]:
    """Vid2Seq's way: captions are joined by ". ", which is put back as far as it was taken away."""
    name = as_id(field(row, ("image_id",), where), where)
    spans = as_list(field(row, ("segments",), where), where)
    captions = as_text(field(row, ("pure_cap",), where), where).split(". ")
    if len(captions) != len(spans):
        raise AnnotationError(
            f'{where} ({name!r}): pure_cap splits at ". " into {len(captions)} captions for {len(spans)} segments; '
            'write ", " for a ". " inside a caption'
        )
    ended = [text if profile == "fixed" and text.endswith(".") else f"{text}." for text in captions]
    return name, _events(spans, ended, f"{where} ({name!r})")


def _answered(row: Any, where: str, profile: Profile) -> tuple[str, Segments]:
    """MMDuet's way. Its evaluation writes Vid2Seq's file first, for which a full stop inside a caption becomes a comma."""
    name = as_id(field(row, ("question_id",), where), where)
    answers = as_list(field(row, ("answer",), where), where)
    captions = [as_text(field(answer, ("content",), where), where) for answer in answers]
    if profile == "paper":
        captions = [text.replace(". ", ", ") + "." for text in captions]
    return name, _events([field(answer, ("time",), where) for answer in answers], captions, f"{where} ({name!r})")


def _timed_sentences(row: Any, where: str) -> Segments:
    """densevid_eval's way."""
    spans = as_list(field(row, ("timestamps",), where), where)
    sentences = as_list(field(row, ("sentences",), where), where)
    if len(spans) != len(sentences):
        raise AnnotationError(f"{where} has {len(spans)} timestamps and {len(sentences)} sentences; give as many")
    return _events(spans, sentences, where)


def _events(spans: Sequence[Any], captions: Sequence[Any], where: str) -> Segments:
    return tuple(
        _segment(span, caption, f"{where}, event {i}")
        for i, (span, caption) in enumerate(zip(spans, captions, strict=True))
    )


def _segment(span: Any, caption: Any, where: str) -> Segment:
    if len(as_list(span, where)) != 2:
        raise AnnotationError(f"{where} has the times {shown(span)}; give a start and an end in seconds")
    return Segment(as_number(span[0], where), as_number(span[1], where), as_text(caption, where))
