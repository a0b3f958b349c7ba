"""Temporal grounding (Charades-STA): mIoU and R@1 of segments, of frame scores, or of answers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmduet.annotations.grounding_files import (
    Form,
    Gold,
    Predictions,
    answer_text,
    first_segment,
    read_gold,
    read_predictions,
    video_duration,
)
from mmduet.annotations.prediction_rows import (
    UnusableError,
    frame_scores,
    one_sided,
    refuse_strangers,
    usable,
)
from mmduet.errors import OptionError
from mmduet.evaluation.benchmarks.columns import intervals, items, means
from mmduet.evaluation.report import Json, Problem, Report, refuse_problems
from mmduet.metrics.frame_scores import (
    SMOOTHINGS,
    FrameBatch,
    batches,
    moving_mean,
    normalised,
    normalised_so_far,
)
from mmduet.metrics.grounding import (
    columns,
    frame_ious,
    frames_in_spans,
    in_percent,
    segment_iou,
    summary,
    sweep_thresholds,
    text_iou,
    text_span,
)
from mmduet.metrics.spans import Span
from mmduet.options import Profile

FloatArray = npt.NDArray[np.float64]

SMOOTHING = 4  # what MMDuet's smoothing function takes where it is told nothing
THRESHOLD = 0.5  # the middle of the normalised range
CONSTANT = 1e-12  # of the greatest score: what scores that differ by rounding alone may range over


@dataclass(frozen=True)
class Scored:
    """What one form of predictions gave: IoUs of queries by metric prefix, [Q]; NaN for a query that is left out."""

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
    form: Form | None = None,
    smoothing: int = SMOOTHING,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Report:
    """``mIoU``, ``R1@0.3``, ``R1@0.5`` and ``R1@0.7``, times 100, over the annotated or with ``sample`` the predicted queries.

    ``form`` says what the predictions are, None: see ``read_predictions``.

    - ``segments`` (TimeChat's ``eval_tvg``): the first segment, IoU by the hull; with several gold spans the best one.
    - ``frames`` (MMDuet; Charades-STA as it is published): IoU over frames of the smoothed (``smoothing`` frames to each
      side), min-max normalised scores that reach ``threshold``. Beside them ``causal-``: the same with means over
      [i - smoothing, i] and normalised by the least and the greatest score so far, so without look-ahead; as numbers that are
      tuned on the test set ``best-``, the best of the sweep for each metric, and ``oracle-threshold-``, where every query
      takes the threshold that suits it best. ``sweep`` has a row for each smoothing 0 to 14 and each threshold 0.30 to 0.70.
    - ``text`` (MMDuet's baselines): the two numbers of the answer, against the first gold span.

    Profile ``fixed``: a query without a usable prediction has IoU 0. ``paper``, as in the originals: of ``frames`` and ``text``
    only predicted queries count, a text without exactly two numbers is dropped, scores are constant only where they are equal
    to the last bit. Raises ``AnnotationError`` for files that cannot be used, and with ``strict`` for any problem.
    """
    _check(smoothing, threshold)
    gold = read_gold(annotations)
    found = read_predictions(predictions, form)
    refuse_strangers(found.rows, gold, predictions)
    only_predicted = sample or (profile == "paper" and found.form != "segments")
    chosen = {key: query for key, query in gold.items() if key in found.rows or not only_predicted}
    problems = _one_sided(found, gold, sample, only_predicted)
    if found.form == "frames":
        scored = _score_frames(found, chosen, problems, CONSTANT if profile == "fixed" else 0.0, smoothing, threshold)
    elif found.form == "segments":
        scored = _score_segments(found, chosen, problems)
    else:
        scored = _score_text(found, chosen, problems, drop=profile == "paper")
    if strict:
        refuse_problems(problems)
    return _report(
        [query.id for query in chosen.values()], scored, problems, profile, seed, _counted(sample, chosen, gold)
    )


def _check(smoothing: int, threshold: float) -> None:
    if smoothing < 0:
        raise OptionError(f"smoothing is {smoothing}; use a number of frames from 0 up")
    if not 0 < threshold <= 1:
        raise OptionError(
            f"threshold is {threshold}; normalised scores lie between 0 and 1, use a number above 0 and up to 1"
        )


def _one_sided(found: Predictions, gold: Mapping[str, Gold], sample: bool, only_predicted: bool) -> list[Problem]:
    """With ``sample`` it was asked for that not all queries are predicted: no problem."""
    annotated = [key for key in gold if key in found.rows or not sample]
    return one_sided(found.rows, annotated, "left out, as in the original" if only_predicted else "IoU 0")


def _counted(sample: bool, chosen: Mapping[str, Gold], gold: Mapping[str, Gold]) -> list[str]:
    return [f"Only the predicted queries count: {len(chosen)} of {len(gold)}."] if sample else []


def _report(
    ids: Sequence[object],
    scored: Scored,
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
    """A query that is left out (NaN) has no hits either."""
    return {name: np.where(np.isnan(ious), np.nan, values) for name, values in columns(ious, prefix).items()}


def _score_segments(found: Predictions, chosen: Mapping[str, Gold], problems: list[Problem]) -> Scored:
    segments = usable(found.rows, chosen, problems, lambda _, row: first_segment(row), "IoU 0")
    ious, queries = np.zeros(len(chosen)), list(chosen.items())
    for place, segment in segments.items():
        key, query = queries[place]
        if segment is not None and segment[1] < segment[0]:
            problems.append(Problem(key, f"segment {list(segment)} ends before it starts", "IoU 0"))
        ious[place] = max(segment_iou(segment, span) for span in query.spans)
    silent = sum(segment is None for segment in segments.values())
    notes = [f"{silent} of {len(segments)} predictions hold no segment: each counts as a miss."] if silent else []
    return Scored({"": ious}, ["Predictions were read as segments (TimeChat's form).", *notes])


def _score_text(found: Predictions, chosen: Mapping[str, Gold], problems: list[Problem], drop: bool) -> Scored:
    counted = "dropped, as in the original" if drop else "IoU 0"
    answers = usable(found.rows, chosen, problems, lambda _, row: _answered_span(row), counted)
    ious = np.full(len(chosen), np.nan if drop else 0.0)
    for place, query in enumerate(chosen.values()):
        if place in answers:
            ious[place] = text_iou(answers[place], query.spans[0])
    notes = [
        "Predictions were read as answers in words, of which the two numbers count, against the first gold span.",
        "IoU of answers in words counts both ends as whole seconds (+1), so it does not compare with that of segments.",
    ]
    return Scored({"": ious}, notes)


def _answered_span(row: Json) -> Span:
    answer, duration = answer_text(row), video_duration(row)
    span = text_span(answer, duration)
    if span is None and in_percent(answer) and text_span(answer, 1.0) is not None:
        raise UnusableError("the answer is in per cent of a video_duration that is not told")
    if span is None:
        raise UnusableError(f"the answer {answer[:40]!r} does not hold exactly two numbers")
    return span


def _score_frames(
    found: Predictions,
    chosen: Mapping[str, Gold],
    problems: list[Problem],
    tolerance: float,
    smoothing: int,
    threshold: float,
) -> Scored:
    videos = usable(found.rows, chosen, problems, lambda _, row: frame_scores(row), "IoU 0")
    thresholds, fixed = sweep_thresholds(), np.array([threshold])
    spans, places = [query.spans for query in chosen.values()], np.array(list(videos), dtype=np.int64)
    swept = np.zeros((len(SMOOTHINGS), len(thresholds), len(chosen)))
    at_setting, oracle, causal = np.zeros((3, len(chosen)))
    for index, batch in batches(list(videos.values())):
        here = places[index]
        frames = Frames(batch, [spans[q] for q in here], tolerance)
        for w in SMOOTHINGS:
            swept[w][:, here] = frames.ious(w, thresholds).T
        at_setting[here] = frames.ious(smoothing, fixed)[:, 0]
        oracle[here] = frames.ious(smoothing, thresholds).max(axis=1)
        causal[here] = frames.causal_ious(smoothing, fixed)[:, 0]
    sweep = [
        {"smoothing": w, "threshold": float(t), **summary(swept[w, k])}
        for w in SMOOTHINGS
        for k, t in enumerate(thresholds)
    ]
    best = {f"best-{name}": max(row[name] for row in sweep) for name in summary(at_setting)}
    ious = {"": at_setting, "causal-": causal, "oracle-threshold-": oracle}
    return Scored(ious, _frame_notes(smoothing, threshold, len(sweep)), sweep, best)


class Frames:
    """A batch of videos with its gold frames, to be scored at many settings."""

    def __init__(self, batch: FrameBatch, spans: Sequence[Sequence[Span]], tolerance: float) -> None:
        self._batch, self._tolerance = batch, tolerance
        self._gold = frames_in_spans(batch.times, spans)

    def ious(self, smoothing: int, thresholds: FloatArray) -> FloatArray:
        """[Q, T], by means over [i - smoothing, i + smoothing] and the whole video's range."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, smoothing, smoothing)
        scores = normalised(smooth, self._batch.lengths, self._tolerance)
        return frame_ious(scores, self._gold, self._batch.real, thresholds)

    def causal_ious(self, smoothing: int, thresholds: FloatArray) -> FloatArray:
        """[Q, T], by means over [i - smoothing, i] and the range so far."""
        smooth = moving_mean(self._batch.relevance, self._batch.lengths, smoothing, 0)
        scores = normalised_so_far(smooth, self._batch.lengths, self._tolerance)
        return frame_ious(scores, self._gold, self._batch.real, thresholds)


def _frame_notes(smoothing: int, threshold: float, settings: int) -> list[str]:
    return [
        f"Predictions were read as frame scores; mIoU and R1 are of one setting, smoothing {smoothing} (frames to each side) "
        f"and threshold {threshold}, fixed without a look at the results.",
        f"The sweep's {settings} settings are tried on the test set itself: best- metrics are the best of it, each at its own "
        "setting, so they are tuned on the test set, as published numbers of this kind are.",
        f"oracle-threshold- metrics let every query take its best threshold (smoothing {smoothing}): an upper bound that knows "
        "the gold spans.",
        "causal- metrics use no frame after the one that is judged: means over past frames, and min-max normalisation by the "
        "scores so far.",
    ]
