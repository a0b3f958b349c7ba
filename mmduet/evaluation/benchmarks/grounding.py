"""Temporal grounding (Charades-STA): mIoU and R@1 of segments, of frame scores, or answers in text form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmduet.annotations.grounding_files import (
    GroundingPredictions,
    GroundingQuery,
    PredictionForm,
    parse_first_segment,
    read_predictions,
    read_queries,
)
from mmduet.annotations.json_values import InvalidValueError, Json
from mmduet.annotations.prediction_lines import parse_answer_text, parse_frame_scores, parse_video_duration
from mmduet.annotations.problems import Problem, check_ids_overlap, id_problems, parse_predictions
from mmduet.errors import OptionError
from mmduet.evaluation.benchmarks.columns import intervals, items, means
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.metrics.frame_scores import (
    SMOOTHINGS,
    FrameBatch,
    causal_min_max_normalize,
    make_batches,
    min_max_normalize,
    moving_mean,
)
from mmduet.metrics.grounding import (
    frame_ious,
    frames_in_spans,
    is_in_percent,
    mean_metrics,
    per_query_metrics,
    segment_iou,
    sweep_thresholds,
    text_iou,
    text_span,
)
from mmduet.options import Profile
from mmduet.spans import Span

FloatArray = npt.NDArray[np.float64]

SMOOTHING = 4  # the default of MMDuet's smoothing function
THRESHOLD = 0.5  # the middle of the normalised range
CONSTANT_TOLERANCE = 1e-12  # range of constant scores, relative to the maximum: differences by rounding


@dataclass(frozen=True)
class _Scores:
    """The scores of one form of predictions: IoUs of queries [Q] by metric prefix; NaN for a query that is left out."""

    ious: Mapping[str, FloatArray]
    notes: Sequence[str] = ()
    sweep: Sequence[Json] = ()
    tuned: Mapping[str, float] = field(default_factory=dict)


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    sample: bool = False,
    form: PredictionForm | None = None,
    smoothing: int = SMOOTHING,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Report:
    """Compute ``mIoU``, ``R1@0.3``, ``R1@0.5`` and ``R1@0.7``, times 100.

    The predictions have one of three forms:

    - ``segments`` (TimeChat's ``eval_tvg``): the first segment counts, with the IoU of the hull; of several gold spans the
      best one.
    - ``frames`` (MMDuet; the published numbers on Charades-STA): scores are smoothed and min-max normalised, and the IoU is
      that of the frames whose score reaches ``threshold``. Further metrics: ``causal-`` uses means over [i - smoothing, i] and
      the score range so far, without look-ahead; ``best-`` is the best of the sweep for each metric, and ``oracle-threshold-``
      uses the best threshold of every query, both tuned on the test set. ``sweep`` has a row per smoothing 0 to 14 and
      threshold 0.30 to 0.70.
    - ``text`` (MMDuet's baselines): the two numbers of the answer, compared with the first gold span.

    Under profile ``fixed`` a query without a usable prediction has IoU 0. Under ``paper``, as in the originals, only predicted
    queries count for ``frames`` and ``text``, texts without exactly two numbers are dropped, and scores count as constant only
    if they are exactly equal.

    Args:
        sample: Evaluate the predicted queries only.
        form: The form of the predictions; None detects it (``read_predictions``).
        smoothing: Number of frames to each side that a score is averaged over.
        threshold: Normalised score from which a frame is predicted as relevant.
        seed: Of the bootstrap intervals.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: ``smoothing`` or ``threshold`` is out of range.
    """
    _check_options(smoothing, threshold)
    gold = read_queries(annotations)
    found = read_predictions(predictions, form)
    check_ids_overlap(found.rows, gold, predictions, annotations)
    only_predicted = sample or (profile == "paper" and found.form != "segments")
    chosen = {key: query for key, query in gold.items() if key in found.rows or not only_predicted}
    problems = _id_problems(found, gold, sample, only_predicted)
    if found.form == "frames":
        tolerance = CONSTANT_TOLERANCE if profile == "fixed" else 0.0
        scored = _score_frames(found, chosen, problems, tolerance, smoothing, threshold)
    elif found.form == "segments":
        scored = _score_segments(found, chosen, problems)
    else:
        scored = _score_text(found, chosen, problems, drop=profile == "paper")
    if strict:
        check_no_problems(problems)
    notes = _sample_notes(sample, chosen, gold)
    return _report([query.id for query in chosen.values()], scored, problems, profile, seed, notes)


def _check_options(smoothing: int, threshold: float) -> None:
    if smoothing < 0:
        raise OptionError(f"smoothing must be at least 0 frames, got {smoothing}")
    if not 0 < threshold <= 1:
        raise OptionError(f"threshold must be above 0 and at most 1, got {threshold}; scores are normalised to [0, 1]")


def _id_problems(
    found: GroundingPredictions, gold: Mapping[str, GroundingQuery], sample: bool, only_predicted: bool
) -> list[Problem]:
    """Return problems of missing and unknown ids; with ``sample`` missing predictions are not a problem."""
    annotated = [key for key in gold if key in found.rows or not sample]
    return id_problems(found.rows, annotated, "left out, as in the original" if only_predicted else "IoU 0")


def _sample_notes(sample: bool, chosen: Mapping[str, GroundingQuery], gold: Mapping[str, GroundingQuery]) -> list[str]:
    return [f"Only the predicted queries count: {len(chosen)} of {len(gold)}."] if sample else []


def _report(
    ids: Sequence[object],
    scored: _Scores,
    problems: Sequence[Problem],
    profile: Profile,
    seed: int,
    notes: Sequence[str],
) -> Report:
    by_query = {name: values for prefix, ious in scored.ious.items() for name, values in _columns(ious, prefix).items()}
    return Report(
        "grounding",
        {**means(by_query), **scored.tuned},
        items(ids, by_query),
        scored.sweep,
        problems,
        [*notes, *scored.notes],
        profile,
        intervals(by_query, seed),
    )


def _columns(ious: FloatArray, prefix: str) -> dict[str, FloatArray]:
    """Return the metrics of each query; NaN for a query that is left out."""
    return {name: np.where(np.isnan(ious), np.nan, values) for name, values in per_query_metrics(ious, prefix).items()}


def _score_segments(
    found: GroundingPredictions, chosen: Mapping[str, GroundingQuery], problems: list[Problem]
) -> _Scores:
    segments = parse_predictions(found.rows, chosen, lambda _, row: parse_first_segment(row), problems, "IoU 0")
    ious, queries = np.zeros(len(chosen)), list(chosen.items())
    for i, segment in segments.items():
        key, query = queries[i]
        if segment is not None and segment[1] < segment[0]:
            problems.append(Problem(key, f"segment {list(segment)} ends before it starts", "IoU 0"))
        ious[i] = max(segment_iou(segment, span) for span in query.spans)
    empty = sum(segment is None for segment in segments.values())
    notes = [f"{empty} of {len(segments)} predictions have no segment; each counts as a miss."] if empty else []
    return _Scores({"": ious}, ["Predictions were read as segments (TimeChat's form).", *notes])


def _score_text(
    found: GroundingPredictions, chosen: Mapping[str, GroundingQuery], problems: list[Problem], drop: bool
) -> _Scores:
    counted = "dropped, as in the original" if drop else "IoU 0"
    answers = parse_predictions(found.rows, chosen, lambda _, row: _answered_span(row), problems, counted)
    ious = np.full(len(chosen), np.nan if drop else 0.0)
    for i, query in enumerate(chosen.values()):
        if i in answers:
            ious[i] = text_iou(answers[i], query.spans[0])
    notes = [
        "Predictions were read as texts; the two numbers of each are compared with the first gold span.",
        "IoU of texts counts both ends as whole seconds (+1), so it is not comparable with the IoU of segments.",
    ]
    return _Scores({"": ious}, notes)


def _answered_span(row: Json) -> Span:
    answer, duration = parse_answer_text(row), parse_video_duration(row)
    span = text_span(answer, duration)
    if span is None and is_in_percent(answer) and text_span(answer, 1.0) is not None:
        raise InvalidValueError("the answer is in per cent, but the row has no video_duration")
    if span is None:
        raise InvalidValueError(f"the answer {answer[:40]!r} does not contain exactly two numbers")
    return span


def _score_frames(
    found: GroundingPredictions,
    chosen: Mapping[str, GroundingQuery],
    problems: list[Problem],
    tolerance: float,
    smoothing: int,
    threshold: float,
) -> _Scores:
    videos = parse_predictions(found.rows, chosen, lambda _, row: parse_frame_scores(row), problems, "IoU 0")
    thresholds, fixed = sweep_thresholds(), np.array([threshold])
    spans, positions = [query.spans for query in chosen.values()], np.array(list(videos), dtype=np.int64)
    swept = np.zeros((len(SMOOTHINGS), len(thresholds), len(chosen)))
    at_setting, oracle, causal = np.zeros((3, len(chosen)))
    for index, batch in make_batches(list(videos.values())):
        rows = positions[index]
        frames = FrameBatchScorer(batch, [spans[q] for q in rows], tolerance)
        for w in SMOOTHINGS:
            swept[w][:, rows] = frames.ious(w, thresholds).T
        at_setting[rows] = frames.ious(smoothing, fixed)[:, 0]
        oracle[rows] = frames.ious(smoothing, thresholds).max(axis=1)
        causal[rows] = frames.causal_ious(smoothing, fixed)[:, 0]
    sweep = [
        {"smoothing": w, "threshold": float(t), **mean_metrics(swept[w, k])}
        for w in SMOOTHINGS
        for k, t in enumerate(thresholds)
    ]
    best = {f"best-{name}": max(row[name] for row in sweep) for name in mean_metrics(at_setting)}
    ious = {"": at_setting, "causal-": causal, "oracle-threshold-": oracle}
    return _Scores(ious, _frame_notes(smoothing, threshold, len(sweep)), sweep, best)


class FrameBatchScorer:
    """Scores a batch of videos against its gold frames at many settings."""

    def __init__(self, batch: FrameBatch, spans: Sequence[Sequence[Span]], tolerance: float) -> None:
        self._batch, self._tolerance = batch, tolerance
        self._gold = frames_in_spans(batch.times, spans)

    def ious(self, smoothing: int, thresholds: FloatArray) -> FloatArray:
        """Return IoUs [Q, T] with means over [i - smoothing, i + smoothing] and the score range of the whole video."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, smoothing, smoothing)
        scores = min_max_normalize(smooth, self._batch.lengths, self._tolerance)
        return frame_ious(scores, self._gold, self._batch.mask, thresholds)

    def causal_ious(self, smoothing: int, thresholds: FloatArray) -> FloatArray:
        """Return IoUs [Q, T] with means over [i - smoothing, i] and the score range of the frames so far."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, smoothing, 0)
        scores = causal_min_max_normalize(smooth, self._batch.lengths, self._tolerance)
        return frame_ious(scores, self._gold, self._batch.mask, thresholds)


def _frame_notes(smoothing: int, threshold: float, settings: int) -> list[str]:
    return [
        f"Predictions were read as frame scores; mIoU and R1 use one setting, smoothing {smoothing} (frames to each side) "
        f"and threshold {threshold}, fixed independently of the results.",
        f"The {settings} settings of the sweep are evaluated on the test set itself. Each best- metric is at its own best "
        "setting, so it is tuned on the test set, as published numbers of this kind are.",
        f"oracle-threshold- metrics use the best threshold of every query (smoothing {smoothing}): an upper bound that uses "
        "the gold spans.",
        "causal- metrics use no later frames: means over past frames, and min-max normalisation by the scores so far.",
    ]
