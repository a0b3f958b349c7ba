"""What readers of prediction files share: ids, numbers and frame scores, checked one by one; knows no benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Json, Problem
from mmduet.metrics.frame_scores import FrameScores

T = TypeVar("T")


class UnusableError(ValueError):
    """A prediction that cannot be scored; the message says what is wrong with it, the caller knows whose it is."""


def id_key(value: object) -> str | None:
    """What queries are joined by: the id as text, for files do not agree on 60 or "60". None for what is no id."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def rows_by_id(rows: Sequence[Any], field: str, path: Path) -> dict[str, Json]:
    """The rows by the text of their id ``field``; ``AnnotationError`` for none, a missing id or one given twice."""
    if not rows:
        raise AnnotationError(f"{path} is empty; give a file with one object for each query")
    by_id: dict[str, Json] = {}
    for number, row in enumerate(rows, 1):
        key = id_key(row.get(field)) if isinstance(row, dict) else None
        if key is None:
            raise AnnotationError(
                f"{path}, entry {number} has no {field}, a text or a whole number: {shown(row)}; give it one"
            )
        if key in by_id:
            raise AnnotationError(f"{path}: {field} {key} is there twice; keep one of them")
        by_id[key] = row
    return by_id


def refuse_strangers(predicted: Mapping[str, object], annotated: Mapping[str, object], path: Path) -> None:
    """Raise ``AnnotationError`` unless some predicted id is annotated."""
    if not predicted.keys() & annotated.keys():
        raise AnnotationError(
            f"{path}: none of its {len(predicted)} ids (such as {next(iter(predicted))}) is annotated, whose ids are such as "
            f"{next(iter(annotated))}; give predictions and annotations of the same split"
        )


def one_sided(predicted: Collection[str], annotated: Collection[str], counted: str) -> list[Problem]:
    """A problem for each id that only one side has; ``counted`` is what a query without prediction is taken for."""
    missing = [Problem(key, "no prediction", counted) for key in annotated if key not in predicted]
    return missing + [Problem(key, "is not annotated", "left out") for key in predicted if key not in annotated]


def usable(
    rows: Mapping[str, Any],
    keys: Collection[str],
    problems: list[Problem],
    parse: Callable[[str, Any], T],
    counted: str,
) -> dict[int, T]:
    """What ``parse(key, row)`` makes of the rows, by the place of the key among ``keys``.

    A row that it refuses with ``UnusableError`` is added to ``problems``; a key without a row is not looked at.
    """
    parsed: dict[int, T] = {}
    for place, key in enumerate(keys):
        if key not in rows:
            continue
        try:
            parsed[place] = parse(key, rows[key])
        except UnusableError as error:
            problems.append(Problem(key, str(error), counted))
    return parsed


def number(value: object) -> float | None:
    """A finite number, None for anything else: texts, true and false, NaN, infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond the range of floats
        return None


def numbers(values: object, what: str) -> list[float]:
    """A list of finite numbers; raises ``UnusableError`` that names the first which is none."""
    if not isinstance(values, list):
        raise UnusableError(f"{what} are {shown(values)}, not a list")
    checked = []
    for place, value in enumerate(values):
        if (finite := number(value)) is None:
            raise UnusableError(f"{what}: number {place} is {shown(value)}, not a finite number")
        checked.append(finite)
    return checked


def shown(value: object, most: int = 40) -> str:
    """A value as it is told in a message."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def has_frame_scores(row: Json) -> bool:
    """Whether some frame of the row bears a relevance score."""
    frames = row.get("debug_data")
    return isinstance(frames, list) and any(isinstance(f, dict) and "relevance_score" in f for f in frames)


def frame_scores(row: Json) -> FrameScores:
    """The frames of ``debug_data``: ``[{time, relevance_score}, ...]``; raises ``UnusableError``.

    A frame without the score has relevance 0. The reference's own files say ``video_time``, and give the probabilities of no
    and yes as a pair: these are read too.
    """
    frames = row.get("debug_data")
    if not isinstance(frames, list) or not frames:
        raise UnusableError("there are no frames in debug_data")
    if not all(isinstance(frame, dict) for frame in frames):
        raise UnusableError("debug_data holds something that is no object")
    times = numbers([frame.get("time", frame.get("video_time")) for frame in frames], "times of frames")
    relevance = numbers([_relevance(frame) for frame in frames], "relevance scores")
    _check_times(times)
    return FrameScores(times, relevance)


def _relevance(frame: Json) -> object:
    score = frame.get("relevance_score", 0.0)
    return score[1] if isinstance(score, list) and len(score) == 2 else score


def _check_times(times: Sequence[float]) -> None:
    if times[0] < 0:
        raise UnusableError(f"the first frame is at {times[0]} s, before the video")
    for before, after in pairwise(times):
        if after <= before:
            raise UnusableError(f"a frame at {after} s follows one at {before} s; times must grow")
