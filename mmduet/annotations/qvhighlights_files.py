"""Reads the files of QVHighlights: official annotations, submissions to them and frame scores; scores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.prediction_rows import UnusableError, number, numbers, rows_by_id, shown
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Json
from mmduet.files import read_json_lines
from mmduet.metrics.highlights import ANNOTATORS, CLIP_SECONDS, RatedClips
from mmduet.metrics.moments import ScoredSpan
from mmduet.metrics.spans import Span

SCORES, WINDOWS = "pred_saliency_scores", "pred_relevant_windows"


@dataclass(frozen=True)
class Query:
    """An annotated query: ``duration`` in seconds, ``rated`` clips and relevant ``windows``, None where they are not told."""

    id: str | int
    duration: float
    rated: RatedClips | None
    windows: tuple[Span, ...] | None


@dataclass(frozen=True)
class Predictions:
    """Rows by id: of submissions, or with ``frames`` of our own predictions."""

    rows: dict[str, Json]
    frames: bool

    def holds(self, part: str) -> bool:
        """Whether any row has the field ``part``."""
        return any(part in row for row in self.rows.values())


LONGEST = 1_000_000  # seconds; more is no video, and would be a table of clips that no memory holds


def read_queries(path: Path) -> dict[str, Query]:
    """``{qid, duration, relevant_clip_ids, saliency_scores, relevant_windows}`` a line, by id in the order of the file.

    Raises ``AnnotationError`` for anything that cannot be used; a part that no line has at all is None.
    """
    queries = {}
    for key, row in rows_by_id(read_json_lines(path), "qid", path).items():
        try:
            queries[key] = _query(row)
        except UnusableError as error:
            raise AnnotationError(
                f"{path}: query {key}: {error}; correct the annotation or leave the query out"
            ) from None
    return queries


def _query(row: Json) -> Query:
    duration = number(row.get("duration"))
    if duration is None or int(duration / CLIP_SECONDS) < 1 or duration > LONGEST:
        raise UnusableError(
            f"duration is {shown(row.get('duration'))}; a video has at least one clip of 2 s, and {LONGEST} s at most"
        )
    rated = _rated(row, int(duration / CLIP_SECONDS)) if "relevant_clip_ids" in row else None
    windows = _gold_windows(row["relevant_windows"]) if "relevant_windows" in row else None
    return Query(row["qid"], duration, rated, windows)


def _rated(row: Json, clips: int) -> RatedClips:
    ids, ratings = row["relevant_clip_ids"], row.get("saliency_scores")
    if not isinstance(ids, list) or not isinstance(ratings, list) or len(ids) != len(ratings):
        raise UnusableError("relevant_clip_ids and saliency_scores are not lists of one length")
    for clip in ids:
        if not isinstance(clip, int) or isinstance(clip, bool) or not 0 <= clip < clips:
            raise UnusableError(f"relevant clip {shown(clip)} is none of the video's {clips}")
    rows = [numbers(of_clip, "saliency_scores") for of_clip in ratings]
    for of_clip in rows:
        if len(of_clip) != ANNOTATORS:
            raise UnusableError(f"saliency_scores hold {of_clip}, not a rating from each of {ANNOTATORS} annotators")
    return RatedClips(clips, ids, rows)


def _gold_windows(value: object) -> tuple[Span, ...]:
    windows = [(window[0], window[1]) for window in _rows_of(value, 2, "relevant_windows")]
    for start, end in windows:
        if end < start:
            raise UnusableError(f"relevant window [{start}, {end}] ends before it starts")
    return tuple(windows)


def read_predictions(path: Path) -> Predictions:
    """One JSON object a line, with ``qid`` (a submission) or ``question_id`` (frame scores in ``debug_data``).

    Raises ``AnnotationError`` for a file that is neither.
    """
    rows = read_json_lines(path)
    frames = not any("qid" in row for row in rows)
    found = Predictions(
        rows_by_id(rows, "question_id" if frames and _any_has(rows, "question_id") else "qid", path), frames
    )
    told = ["debug_data"] if frames else [SCORES, WINDOWS]
    if not any(map(found.holds, told)):
        raise AnnotationError(f"{path}: no line has {' or '.join(told)}; is it a file of predictions?")
    return found


def _any_has(rows: Sequence[Json], field: str) -> bool:
    return any(field in row for row in rows)


def predicted_scores(row: Json) -> list[float]:
    """A score for each clip, at least one; raises ``UnusableError``."""
    if SCORES not in row:
        raise UnusableError(f"no {SCORES}")
    scores = numbers(row[SCORES], SCORES)
    if not scores:
        raise UnusableError(f"{SCORES} is empty")
    return scores


def predicted_windows(row: Json) -> list[ScoredSpan]:
    """``[[start, end, score], ...]``, none where the list is empty; raises ``UnusableError``."""
    if WINDOWS not in row:
        raise UnusableError(f"no {WINDOWS}")
    return [(window[0], window[1], window[2]) for window in _rows_of(row[WINDOWS], 3, WINDOWS)]


def _rows_of(value: object, width: int, what: str) -> list[list[float]]:
    """A list of lists of so many finite numbers."""
    if not isinstance(value, list):
        raise UnusableError(f"{what} are {shown(value)}, not a list")
    rows = []
    for place, row in enumerate(value):
        if not isinstance(row, list) or len(row) != width:
            form = "[start, end, score]" if width == len(("start", "end", "score")) else "[start, end]"
            raise UnusableError(f"{what}: number {place} is {shown(row)}, not {form}")
        rows.append(numbers(row, what))
    return rows
