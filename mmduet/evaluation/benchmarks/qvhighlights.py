"""QVHighlights: highlight detection and moment retrieval, from submissions or from frame scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmduet.annotations.json_values import InvalidValueError, Json
from mmduet.annotations.prediction_lines import parse_frame_scores
from mmduet.annotations.problems import Problem, check_ids_overlap, id_problems, parse_predictions
from mmduet.annotations.qvhighlights_files import (
    CLIP_SECONDS,
    SCORES_FIELD,
    WINDOWS_FIELD,
    ClipRatings,
    HighlightPredictions,
    HighlightQuery,
    parse_clip_scores,
    parse_windows,
    read_predictions,
    read_queries,
)
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.columns import Columns, intervals, items, means
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.metrics.frame_scores import (
    SMOOTHINGS,
    FrameBatch,
    clip_index_by_count,
    clip_index_by_time,
    clip_sums,
    make_batches,
    moving_mean,
)
from mmduet.metrics.highlights import (
    METRICS,
    ClipScoresBatch,
    RatingsBatch,
    highlight_scores,
)
from mmduet.metrics.moments import IOU_THRESHOLDS, moment_scores
from mmduet.options import Profile
from mmduet.spans import FrameScores, ScoredSpan

FloatArray = npt.NDArray[np.float64]

SMOOTHING = 4  # the default of MMDuet's smoothing function
MAX_DURATION_RATIO = 2  # a prediction that is longer relative to the annotated duration is of another video
NO_WINDOW: list[ScoredSpan] = [ScoredSpan(0.0, 0.0, 0.0)]  # of length 0, matches no gold window


@dataclass(frozen=True)
class _Scores:
    """The metrics of each query, with notes, the sweep, and metrics that are tuned on it."""

    columns: Columns
    notes: Sequence[str] = ()
    sweep: Sequence[Json] = ()
    tuned: Mapping[str, float] = field(default_factory=dict)


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    smoothing: int = SMOOTHING,
    seed: int = 0,
) -> Report:
    """Compute the metrics of ``standalone_eval`` (Lei et al. 2021) under the names of its ``brief`` results, times 100.

    Predictions are submissions, or lines of ``mmduet predict`` with relevance scores of frames. Of a submission the available
    parts are scored: ``pred_saliency_scores`` (``HL-``) and ``pred_relevant_windows`` (``MR-``). Of frame scores (``HL-`` only)
    each is averaged over ``smoothing`` frames to each side, and a clip has the sum of its frames (MMDuet). Further metrics:
    ``causal-`` uses means over [i - smoothing, i], without look-ahead; ``best-`` is the best of the sweep over smoothing 0 to
    14, tuned on the test set.

    Under profile ``fixed`` a query without a usable prediction scores 0, and frames belong to the clip of their time. Under
    ``paper``, as in MMDuet and TimeChat, only queries with a prediction count, for moment retrieval only those with a window,
    and clips are runs of int(2 / interval) frames.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: ``smoothing`` is negative.
    """

    if smoothing < 0:
        raise OptionError(f"smoothing must be at least 0 frames, got {smoothing}")
    queries = read_queries(annotations)
    found = read_predictions(predictions)
    check_ids_overlap(found.rows, queries, predictions, annotations)
    chosen = {key: query for key, query in queries.items() if key in found.rows or profile == "fixed"}
    problems = id_problems(found.rows, queries, "0" if profile == "fixed" else "left out, as in the original")
    if found.has_frames:
        scored = _score_frames(found, chosen, problems, annotations, profile, smoothing)
    else:
        scored = _score_submission(found, chosen, problems, annotations, profile)
    if strict:
        check_no_problems(problems)
    metrics = {**means(scored.columns), **scored.tuned}
    rows = items([query.id for query in chosen.values()], scored.columns)
    confidence = intervals(scored.columns, seed)
    return Report("qvhighlights", metrics, rows, scored.sweep, problems, scored.notes, profile, confidence)


def _score_submission(
    found: HighlightPredictions,
    chosen: Mapping[str, HighlightQuery],
    problems: list[Problem],
    annotations: Path,
    profile: Profile,
) -> _Scores:
    columns: dict[str, FloatArray] = {}
    parts = [part for part in (WINDOWS_FIELD, SCORES_FIELD) if found.has_field(part)]
    if WINDOWS_FIELD in parts:
        columns.update(_moments(found, chosen, problems, annotations, profile))
    if SCORES_FIELD in parts:
        columns.update(_highlights(found, chosen, problems, annotations))
    return _Scores(columns, [f"Predictions were read as a submission with {' and '.join(parts)}."])


def _highlights(
    found: HighlightPredictions, chosen: Mapping[str, HighlightQuery], problems: list[Problem], annotations: Path
) -> dict[str, FloatArray]:
    ratings = _gold_ratings(chosen, annotations)
    scores = parse_predictions(found.rows, chosen, lambda _, row: parse_clip_scores(row), problems, "0")
    keys = list(chosen)
    for i, clip_scores in scores.items():
        problems += _length_problem(keys[i], len(clip_scores), int(ratings.clips[i]))
    positions = np.array(list(scores), dtype=np.int64)
    columns = highlight_scores(ratings[positions], ClipScoresBatch.from_rows(list(scores.values())))
    return {name: _scatter(values, positions, len(chosen)) for name, values in columns.items()}


def _scatter(values: FloatArray, positions: npt.NDArray[np.int64], queries: int) -> FloatArray:
    """Return the values at their positions among all queries, 0 elsewhere."""
    scattered = np.zeros(queries)
    scattered[positions] = values
    return scattered


def _length_problem(key: str, predicted: int, clips: int) -> list[Problem]:
    if predicted == clips:
        return []
    counted_as = "cut to the video's clips" if predicted > clips else "padded with 0.0"
    return [Problem(key, f"has {predicted} clip scores for a video of {clips} clips", counted_as)]


def _gold_ratings(chosen: Mapping[str, HighlightQuery], annotations: Path) -> RatingsBatch:
    ratings: list[ClipRatings] = []
    for key, query in chosen.items():
        if query.ratings is None:
            raise AnnotationError(
                f"{annotations}: query {key} has no relevant_clip_ids; highlight metrics need a split with labels"
            )
        ratings.append(query.ratings)
    return RatingsBatch.from_videos(ratings)


def _moments(
    found: HighlightPredictions,
    chosen: Mapping[str, HighlightQuery],
    problems: list[Problem],
    annotations: Path,
    profile: Profile,
) -> dict[str, FloatArray]:
    """Return the moment metrics of each query.

    A query without gold windows in a length range is NaN there. A query without predicted windows has 0, under profile
    ``paper`` NaN.
    """
    predicted = parse_predictions(found.rows, chosen, lambda _, row: parse_windows(row), problems, "0")
    gold = []
    for i, (key, query) in enumerate(chosen.items()):
        if query.windows is None:
            raise AnnotationError(
                f"{annotations}: query {key} has no relevant_windows; moment metrics need a split with labels"
            )
        gold.append(query.windows)
        problems += _window_problems(key, predicted.get(i), query.duration, profile)
    scores = moment_scores(gold, [predicted.get(i) or NO_WINDOW for i in range(len(chosen))])
    columns = _moment_columns(scores)
    if profile == "paper":
        without_windows = [i for i, windows in predicted.items() if not windows]
        for values in columns.values():
            values[without_windows] = np.nan
    return columns


def _moment_columns(scores: Mapping[str, Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    full = scores["full"]
    columns = {f"MR-full-R1@{t}": np.where(np.isnan(full["IoU"]), np.nan, full["IoU"] >= t) for t in (0.5, 0.7)}
    columns["MR-full-mAP"] = full["AP"].mean(axis=1)
    for t in (0.5, 0.75):
        columns[f"MR-full-mAP@{t}"] = full["AP"][:, IOU_THRESHOLDS.index(t)].copy()
    for name in ("long", "middle", "short"):
        columns[f"MR-{name}-mAP"] = scores[name]["AP"].mean(axis=1)
    return columns


def _window_problems(
    key: str, windows: Sequence[ScoredSpan] | None, duration: float, profile: Profile
) -> list[Problem]:
    """Return at most one problem of each kind for a query; None stands for a prediction that was already reported."""
    if windows is None:
        return []
    if not windows:
        return [
            Problem(key, f"{WINDOWS_FIELD} is empty", "0" if profile == "fixed" else "left out, as in the original")
        ]
    empty = [window for window in windows if window[1] <= window[0]]
    outside = [window for window in windows if window[0] < 0 or window[1] > duration]
    problems = []
    if empty:
        problems.append(Problem(key, f"window {list(empty[0])} does not end after it starts", "IoU 0"))
    if outside:
        problems.append(Problem(key, f"window {list(outside[0])} exceeds the video of {duration} s", "given"))
    return problems


def _score_frames(
    found: HighlightPredictions,
    chosen: Mapping[str, HighlightQuery],
    problems: list[Problem],
    annotations: Path,
    profile: Profile,
    smoothing: int,
) -> _Scores:
    ratings = _gold_ratings(chosen, annotations)
    videos = parse_predictions(
        found.rows, chosen, lambda key, row: _clip_frames(row, chosen[key], profile), problems, "0"
    )
    settings = {f"{w}": (w, w) for w in SMOOTHINGS} | {"fixed": (smoothing, smoothing), "causal": (smoothing, 0)}
    columns = {name: {metric: np.zeros(len(chosen)) for metric in METRICS} for name in settings}
    positions, keys = np.array(list(videos), dtype=np.int64), list(chosen)
    for index, batch in make_batches(list(videos.values())):
        rows = positions[index]
        clips = _ClipBatch(batch, profile)
        for i, predicted in zip(rows, clips.lengths, strict=True):
            problems += _frame_length_problem(keys[i], int(predicted), int(ratings.clips[i]))
        for name, (before, after) in settings.items():
            scores = highlight_scores(ratings[rows], clips.scores(before, after))
            for metric, values in scores.items():
                columns[name][metric][rows] = values
    sweep = [{"smoothing": w, **means(columns[f"{w}"])} for w in SMOOTHINGS]
    best = {f"best-{metric}": max(row[metric] for row in sweep) for metric in columns["fixed"]}
    causal = {f"causal-{metric}": values for metric, values in columns["causal"].items()}
    return _Scores({**columns["fixed"], **causal}, _frame_notes(smoothing), sweep, best)


def _clip_frames(row: Json, query: HighlightQuery, profile: Profile) -> FrameScores:
    """Return the frame scores of a row. Raises ``InvalidValueError`` if clips cannot be formed from them."""
    video = parse_frame_scores(row)
    if profile == "paper":
        if len(video.times) < 2:
            raise InvalidValueError("there is only one frame, so the interval between frames is unknown")
        if (interval := video.times[1] - video.times[0]) > CLIP_SECONDS:
            raise InvalidValueError(f"a frame every {interval:g} s is too few, expected at least one per clip of 2 s")
    elif video.times[-1] > MAX_DURATION_RATIO * query.duration:
        raise InvalidValueError(
            f"a frame at {video.times[-1]:g} s exceeds the video of {query.duration:g} s; check that it is the same video"
        )
    return video


class _ClipBatch:
    """The clips of a batch of videos, scored at many smoothings."""

    def __init__(self, batch: FrameBatch, profile: Profile) -> None:
        clip_index = clip_index_by_time if profile == "fixed" else clip_index_by_count
        self._batch, self._mask = batch, batch.mask
        self._clip_index = clip_index(batch.times, CLIP_SECONDS)
        self.lengths = np.where(self._mask, self._clip_index, -1).max(axis=1, initial=-1) + 1

    def scores(self, before: int, after: int) -> ClipScoresBatch:
        """Return clip scores with means over frames [i - before, i + after]."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, before, after)
        return ClipScoresBatch(clip_sums(smooth, self._clip_index, self._mask), self.lengths)


def _frame_length_problem(key: str, predicted: int, clips: int) -> list[Problem]:
    """Return a problem for clips without frames; a frame just past the last complete clip is not a problem."""
    return [] if clips <= predicted <= clips + 1 else _length_problem(key, predicted, clips)


def _frame_notes(smoothing: int) -> list[str]:
    return [
        f"Predictions were read as frame scores; the HL- metrics use one setting, smoothing {smoothing} (frames to each "
        "side), fixed independently of the results.",
        f"The {len(SMOOTHINGS)} settings of the sweep are evaluated on the test set itself. Each best- metric is at its own "
        "best setting, so it is tuned on the test set, as published numbers of this kind are.",
        f"causal- metrics use means over each frame and the {smoothing} frames before it, and no later frames.",
    ]
