"""Read QVHighlights' annotations, the submissions to its evaluation, and frame scores for its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.json_files import read_json_rows, rows_by_id
from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_number_rows,
    as_numbers,
    as_spans,
    finite_number,
    get_field,
    list_field,
    short_repr,
)
from mmduet.errors import AnnotationError
from mmduet.spans import ScoredSpan, Span

SCORES_FIELD, WINDOWS_FIELD = "pred_saliency_scores", "pred_relevant_windows"
CLIP_SECONDS = 2.0
ANNOTATORS = ("first", "second", "third")
MAX_DURATION_SECONDS = 1_000_000  # longer is not a video, and its table of clips would not fit into memory


@dataclass(frozen=True)
class ClipRatings:
    """The annotators' ratings of a video with ``clips`` clips: for each clip of ``ids`` one rating (0 to 4) per annotator."""

    clips: int
    ids: Sequence[int]
    ratings: Sequence[Sequence[float]]


@dataclass(frozen=True)
class HighlightQuery:
    """An annotated query. ``ratings`` and ``windows`` are None where the annotations do not have them."""

    id: str | int
    duration: float
    ratings: ClipRatings | None
    windows: tuple[Span, ...] | None


@dataclass(frozen=True)
class HighlightPredictions:
    """Prediction rows by id: of a submission, or with ``has_frames`` MMDuet's prediction lines."""

    rows: dict[str, Json]
    has_frames: bool

    def has_field(self, name: str) -> bool:
        """Return whether any row has the field."""
        return any(name in row for row in self.rows.values())


def read_queries(path: Path) -> dict[str, HighlightQuery]:
    """Return the annotated queries by id, in the order of the file.

    Each line is ``{qid, duration, relevant_clip_ids, saliency_scores, relevant_windows}``. Raises ``AnnotationError`` naming
    the query.
    """
    queries = {}
    for key, row in rows_by_id(read_json_rows(path), path, "qid").items():
        with annotation_errors(f"{path}, query {key}"):
            queries[key] = _parse_query(row)
    return queries


def _parse_query(row: Json) -> HighlightQuery:
    duration = finite_number(row.get("duration"))
    if duration is None or not CLIP_SECONDS <= duration <= MAX_DURATION_SECONDS:
        raise InvalidValueError(
            f"duration is {short_repr(row.get('duration'))}, expected {CLIP_SECONDS:g} (one clip) to {MAX_DURATION_SECONDS} s"
        )
    ratings = _parse_ratings(row, int(duration / CLIP_SECONDS)) if "relevant_clip_ids" in row else None
    windows = as_spans(row["relevant_windows"], "relevant_windows") if "relevant_windows" in row else None
    return HighlightQuery(row["qid"], duration, ratings, windows)


def _parse_ratings(row: Json, clips: int) -> ClipRatings:
    ids = list_field(row, "relevant_clip_ids")
    ratings = as_number_rows(get_field(row, "saliency_scores"), ANNOTATORS, "saliency_scores")
    if len(ids) != len(ratings):
        raise InvalidValueError(
            f"there are {len(ids)} relevant_clip_ids and {len(ratings)} saliency_scores, expected as many"
        )
    for clip in ids:
        if not isinstance(clip, int) or isinstance(clip, bool) or not 0 <= clip < clips:
            raise InvalidValueError(f"relevant clip {short_repr(clip)} is not a clip of the video, which has {clips}")
    return ClipRatings(clips, ids, ratings)


def read_predictions(path: Path) -> HighlightPredictions:
    """Return the rows of a submission (with ``qid``) or of MMDuet's prediction lines (with ``question_id``).

    Raises ``AnnotationError`` for a file that has neither saliency scores, windows nor frame scores.
    """
    rows = read_json_rows(path)
    has_frames = not any("qid" in row for row in rows)
    id_field = "question_id" if has_frames and any("question_id" in row for row in rows) else "qid"
    predictions = HighlightPredictions(rows_by_id(rows, path, id_field), has_frames)
    fields = ["debug_data"] if has_frames else [SCORES_FIELD, WINDOWS_FIELD]
    if not any(map(predictions.has_field, fields)):
        raise AnnotationError(f"{path}: no line has {' or '.join(fields)}; check that it holds predictions")
    return predictions


def parse_clip_scores(row: Json) -> list[float]:
    """Return the scores of the clips, at least one. Raises ``InvalidValueError``."""
    if not (scores := as_numbers(get_field(row, SCORES_FIELD), SCORES_FIELD)):
        raise InvalidValueError(f"{SCORES_FIELD} is empty")
    return scores


def parse_windows(row: Json) -> list[ScoredSpan]:
    """Return the predicted windows, which may be none. Raises ``InvalidValueError``."""
    rows = as_number_rows(get_field(row, WINDOWS_FIELD), ("start", "end", "score"), WINDOWS_FIELD)
    return [ScoredSpan(*window) for window in rows]
