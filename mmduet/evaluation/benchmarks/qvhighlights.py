"""QVHighlights: highlight detection and moment retrieval, from submissions or from frame scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmduet.annotations.prediction_rows import (
    UnusableError,
    frame_scores,
    one_sided,
    refuse_strangers,
    usable,
)
from mmduet.annotations.qvhighlights_files import (
    SCORES,
    WINDOWS,
    Predictions,
    Query,
    predicted_scores,
    predicted_windows,
    read_predictions,
    read_queries,
)
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.columns import Columns, intervals, items, means
from mmduet.evaluation.report import Json, Problem, Report, refuse_problems
from mmduet.metrics.frame_scores import (
    SMOOTHINGS,
    FrameBatch,
    FrameScores,
    batches,
    clip_sums,
    clips_by_count,
    clips_by_time,
    moving_mean,
)
from mmduet.metrics.highlights import (
    CLIP_SECONDS,
    METRICS,
    ClipScores,
    RatedClips,
    Ratings,
    highlight_scores,
)
from mmduet.metrics.moments import IOU_THRESHOLDS, ScoredSpan, moment_scores
from mmduet.options import Profile

FloatArray = npt.NDArray[np.float64]

SMOOTHING = 4  # what MMDuet's smoothing function takes where it is told nothing
MOST_LONGER = 2  # how many times as long as annotated a video may be before it is taken for another one
NO_WINDOW: list[ScoredSpan] = [(0.0, 0.0, 0.0)]  # has no length, so fits nothing


@dataclass(frozen=True)
class Scored:
    """Numbers of each query, and what was tried beside them."""

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
    """The metrics of ``standalone_eval`` (Lei et al. 2021), named as its ``brief`` names them and times 100.

    Predictions are submissions, of which the part that the file holds is scored (``HL-``: ``pred_saliency_scores``, ``MR-``:
    ``pred_relevant_windows``), or our own with relevance scores of frames (``HL-`` only). A frame's score is the mean over
    ``smoothing`` frames to each side, a clip's the sum of its frames' (MMDuet). Beside these ``causal-``: means over
    [i - smoothing, i], without look-ahead; and ``best-``: for each metric the best of the sweep over smoothing 0 to 14, tuned
    on the test set.

    Profile ``fixed``: a query without a usable prediction scores 0; frames lie in the clip of their time. ``paper``, as in
    MMDuet and TimeChat: only queries with a prediction count, for moment retrieval only those with a window; clips are runs of
    int(2 / interval) frames. Raises ``AnnotationError`` for files that cannot be used, and with ``strict`` for any problem.
    """
    if smoothing < 0:
        raise OptionError(f"smoothing is {smoothing}; use a number of frames from 0 up")
    queries = read_queries(annotations)
    found = read_predictions(predictions)
    refuse_strangers(found.rows, queries, predictions)
    chosen = {key: query for key, query in queries.items() if key in found.rows or profile == "fixed"}
    problems = one_sided(found.rows, queries, "0" if profile == "fixed" else "left out, as in the original")
    if found.frames:
        scored = _score_frames(found, chosen, problems, annotations, profile, smoothing)
    else:
        scored = _score_submission(found, chosen, problems, annotations, profile)
    if strict:
        refuse_problems(problems)
    metrics = {**means(scored.columns), **scored.tuned}
    rows = items([query.id for query in chosen.values()], scored.columns)
    sure = intervals(scored.columns, seed)
    return Report("qvhighlights", metrics, rows, scored.sweep, problems, scored.notes, profile, sure)


def _score_submission(
    found: Predictions, chosen: Mapping[str, Query], problems: list[Problem], annotations: Path, profile: Profile
) -> Scored:
    columns: dict[str, FloatArray] = {}
    parts = [part for part in (WINDOWS, SCORES) if found.holds(part)]
    if WINDOWS in parts:
        columns.update(_moments(found, chosen, problems, annotations, profile))
    if SCORES in parts:
        columns.update(_highlights(found, chosen, problems, annotations))
    return Scored(columns, [f"Predictions were read as a submission with {' and '.join(parts)}."])


def _highlights(
    found: Predictions, chosen: Mapping[str, Query], problems: list[Problem], annotations: Path
) -> dict[str, FloatArray]:
    truth = _ratings(chosen, annotations)
    scores = usable(found.rows, chosen, problems, lambda _, row: predicted_scores(row), "0")
    keys = list(chosen)
    for place, given in scores.items():
        problems += _length_problem(keys[place], len(given), int(truth.clips[place]))
    places = np.array(list(scores), dtype=np.int64)
    columns = highlight_scores(truth[places], ClipScores.of(list(scores.values())))
    return {name: _spread(values, places, len(chosen)) for name, values in columns.items()}


def _spread(values: FloatArray, places: npt.NDArray[np.int64], queries: int) -> FloatArray:
    """Values at their places among all queries, 0 at the others."""
    spread = np.zeros(queries)
    spread[places] = values
    return spread


def _length_problem(key: str, given: int, clips: int) -> list[Problem]:
    if given == clips:
        return []
    counted = "cut to the video's clips" if given > clips else "padded with 0.0"
    return [Problem(key, f"{given} clip scores for a video of {clips} clips", counted)]


def _ratings(chosen: Mapping[str, Query], annotations: Path) -> Ratings:
    rated: list[RatedClips] = []
    for key, query in chosen.items():
        if query.rated is None:
            raise AnnotationError(
                f"{annotations}: query {key} has no relevant_clip_ids; highlights need the annotations of a split with labels"
            )
        rated.append(query.rated)
    return Ratings.of(rated)


def _moments(
    found: Predictions, chosen: Mapping[str, Query], problems: list[Problem], annotations: Path, profile: Profile
) -> dict[str, FloatArray]:
    """A query without gold windows in a range is NaN there; without a predicted one it is 0, in the paper's profile NaN."""
    predicted = usable(found.rows, chosen, problems, lambda _, row: predicted_windows(row), "0")
    gold = []
    for place, (key, query) in enumerate(chosen.items()):
        if query.windows is None:
            raise AnnotationError(
                f"{annotations}: query {key} has no relevant_windows; moments need the annotations of a split with labels"
            )
        gold.append(query.windows)
        problems += _window_problems(key, predicted.get(place), query.duration, profile)
    scores = moment_scores(gold, [predicted.get(place) or NO_WINDOW for place in range(len(chosen))])
    columns = _moment_columns(scores)
    if profile == "paper":
        silent = [place for place, windows in predicted.items() if not windows]
        for values in columns.values():
            values[silent] = np.nan
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
    """At most one problem of each kind for a query; None: told already."""
    if windows is None:
        return []
    if not windows:
        return [Problem(key, f"{WINDOWS} is empty", "0" if profile == "fixed" else "left out, as in the original")]
    without_length = [window for window in windows if window[1] <= window[0]]
    outside = [window for window in windows if window[0] < 0 or window[1] > duration]
    problems = []
    if without_length:
        problems.append(Problem(key, f"window {list(without_length[0])} does not end after it starts", "IoU 0"))
    if outside:
        problems.append(Problem(key, f"window {list(outside[0])} leaves the video of {duration} s", "it stands"))
    return problems


def _score_frames(
    found: Predictions,
    chosen: Mapping[str, Query],
    problems: list[Problem],
    annotations: Path,
    profile: Profile,
    smoothing: int,
) -> Scored:
    truth = _ratings(chosen, annotations)
    videos = usable(found.rows, chosen, problems, lambda key, row: _frames(row, chosen[key], profile), "0")
    settings = {f"{w}": (w, w) for w in SMOOTHINGS} | {"fixed": (smoothing, smoothing), "causal": (smoothing, 0)}
    columns = {name: {metric: np.zeros(len(chosen)) for metric in METRICS} for name in settings}
    places, keys = np.array(list(videos), dtype=np.int64), list(chosen)
    for index, batch in batches(list(videos.values())):
        here = places[index]
        clips = _Clips(batch, profile)
        for place, given in zip(here, clips.lengths, strict=True):
            problems += _frame_length_problem(keys[place], int(given), int(truth.clips[place]))
        for name, (before, after) in settings.items():
            scores = highlight_scores(truth[here], clips.scores(before, after))
            for metric, values in scores.items():
                columns[name][metric][here] = values
    sweep = [{"smoothing": w, **means(columns[f"{w}"])} for w in SMOOTHINGS]
    best = {f"best-{metric}": max(row[metric] for row in sweep) for metric in columns["fixed"]}
    causal = {f"causal-{metric}": values for metric, values in columns["causal"].items()}
    return Scored({**columns["fixed"], **causal}, _frame_notes(smoothing), sweep, best)


def _frames(row: Json, query: Query, profile: Profile) -> FrameScores:
    """Frames that clips can be formed of; raises ``UnusableError``."""
    video = frame_scores(row)
    if profile == "paper":
        if len(video.times) < 2:
            raise UnusableError("one frame tells no interval between frames")
        if (interval := video.times[1] - video.times[0]) > CLIP_SECONDS:
            raise UnusableError(f"a frame every {interval:g} s is less than one for each clip of 2 s")
    elif video.times[-1] > MOST_LONGER * query.duration:
        raise UnusableError(
            f"a frame at {video.times[-1]:g} s of a video of {query.duration:g} s: is it another video?"
        )
    return video


class _Clips:
    """The clips of a batch of videos, to be scored at many smoothings."""

    def __init__(self, batch: FrameBatch, profile: Profile) -> None:
        form = clips_by_time if profile == "fixed" else clips_by_count
        self._batch, self._real = batch, batch.real
        self._places = form(batch.times, CLIP_SECONDS)
        self.lengths = np.where(self._real, self._places, -1).max(axis=1, initial=-1) + 1

    def scores(self, before: int, after: int) -> ClipScores:
        """By means over frames [i - before, i + after]."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, before, after)
        return ClipScores(clip_sums(smooth, self._places, self._real), self.lengths)


def _frame_length_problem(key: str, given: int, clips: int) -> list[Problem]:
    """A frame just past the last whole clip is nothing to tell; whole clips without frames are."""
    return [] if clips <= given <= clips + 1 else _length_problem(key, given, clips)


def _frame_notes(smoothing: int) -> list[str]:
    return [
        f"Predictions were read as frame scores; the HL- metrics are of one setting, smoothing {smoothing} (frames to each "
        "side), fixed without a look at the results.",
        f"The sweep's {len(SMOOTHINGS)} settings are tried on the test set itself: best- metrics are the best of it, each at "
        "its own setting, so they are tuned on the test set, as published numbers of this kind are.",
        f"causal- metrics take means over the last {smoothing} frames and the one that is judged, so use no later frame.",
    ]
