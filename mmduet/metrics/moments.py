"""Score moment retrieval of QVHighlights: mAP over IoU thresholds and R1 from windows, for many queries at once.

Source: Lei et al. 2021 (QVHighlights), section 5.1, as computed by their ``standalone_eval``. Windows are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmduet.spans import ScoredSpan, Span

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MAX_WINDOWS = 10  # predicted windows that mAP uses
LENGTH_RANGES = {
    "full": (-math.inf, math.inf),
    "long": (30, 150),
    "middle": (10, 30),
    "short": (0, 10),
}  # seconds: (above, up to]
QUERIES_PER_CHUNK = 512


def moment_scores(
    gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[ScoredSpan]]
) -> dict[str, dict[str, FloatArray]]:
    """Return by range of lengths the ``AP`` [Q, 10] over ``IOU_THRESHOLDS`` and the ``IoU`` [Q] of the first window, 0 to 1.

    Gold windows of other lengths are left out; predicted windows are not. A query without a gold window in the range is NaN.
    Each query has at least one predicted window.
    """
    return {name: _in_range(gold, predicted, *bounds) for name, bounds in LENGTH_RANGES.items()}


def _in_range(
    gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[ScoredSpan]], above: float, up_to: float
) -> dict[str, FloatArray]:
    kept = [[Span(s, e) for s, e in windows if above < e - s <= up_to] for windows in gold]
    queries = [q for q, windows in enumerate(kept) if windows]
    gold_kept, predicted_kept = [kept[q] for q in queries], [predicted[q] for q in queries]
    ap, first = np.full((len(gold), len(IOU_THRESHOLDS)), np.nan), np.full(len(gold), np.nan)
    ap[queries] = average_precision(gold_kept, predicted_kept)
    first[queries] = first_window_iou(gold_kept, predicted_kept)
    return {"AP": ap, "IoU": first}


def average_precision(
    gold: Sequence[Sequence[Span]],
    predicted: Sequence[Sequence[ScoredSpan]],
    chunk_size: int = QUERIES_PER_CHUNK,
) -> FloatArray:
    """Return the all-point interpolated (VOC) AP at each of ``IOU_THRESHOLDS`` [Q, 10]; every query has gold windows.

    The first ten windows in the order of the file are sorted by score, descending and stable. Each is matched with the free
    gold window of highest IoU, the later one of equals, if that IoU reaches the threshold. ``chunk_size`` queries are computed
    at once, which bounds memory and does not change the result.
    """
    chunks = [slice(q, q + chunk_size) for q in range(0, len(gold), chunk_size)]
    empty = np.zeros((0, len(IOU_THRESHOLDS)))
    return np.concatenate([empty, *(_chunk_average_precision(gold[c], predicted[c]) for c in chunks)])


def first_window_iou(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[ScoredSpan]]) -> FloatArray:
    """Return the IoU of each query's first window in the order of the file with the best gold window; [Q]."""
    targets, real = _padded(gold)
    firsts, _ = _padded([windows[:1] for windows in predicted])
    best: FloatArray = np.where(real, iou_matrix(firsts, targets)[:, 0], 0.0).max(axis=1, initial=0.0)
    return best


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return intersection over (sum of lengths - intersection) of windows ``a`` [Q, K, 2] and ``b`` [Q, G, 2]; [Q, K, G].

    The IoU is 0 for windows that do not overlap, have no length, or end before they start.
    """
    start, end = a[:, :, None, 0], a[:, :, None, 1]
    other_start, other_end = b[:, None, :, 0], b[:, None, :, 1]
    shared = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start))
    union = (end - start) + (other_end - other_start) - shared
    ious: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return ious


def _chunk_average_precision(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[ScoredSpan]]) -> FloatArray:
    ranked = [sorted(windows[:MAX_WINDOWS], key=lambda w: -w[2]) for windows in predicted]
    targets, real_target = _padded(gold)
    windows, real_window = _padded(ranked)
    true = _true_positives(iou_matrix(windows, targets), real_window, real_target)  # [Q, T, K]
    precision = true.cumsum(axis=2) / np.arange(1, true.shape[2] + 1)
    interpolated = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    # Recall rises by one gold window at each true positive, and nowhere else.
    result: FloatArray = (interpolated * true).sum(axis=2) / real_target.sum(axis=1)[:, None]
    return result


def _true_positives(iou: FloatArray, real_window: BoolArray, real_target: BoolArray) -> BoolArray:
    """Match greedily in order of rank; ``iou`` [Q, K, G] gives [Q, T, K]."""
    thresholds = np.array(IOU_THRESHOLDS)
    queries, ranks, _ = iou.shape
    free = np.repeat(real_target[:, None], len(thresholds), axis=1)  # [Q, T, G]
    true = np.zeros((queries, len(thresholds), ranks), dtype=bool)
    for k in range(ranks):
        candidate = np.where(free, iou[:, k][:, None], -1.0)
        best = candidate.shape[2] - 1 - candidate[..., ::-1].argmax(axis=2)  # the later one of equals
        reached = np.take_along_axis(candidate, best[..., None], axis=2)[..., 0] >= thresholds
        true[..., k] = reached & real_window[:, k][:, None]
        q, t = np.nonzero(true[..., k])
        free[q, t, best[q, t]] = False
    return true


def _padded(rows: Sequence[Sequence[Sequence[float]]]) -> tuple[FloatArray, BoolArray]:
    """Return starts and ends padded to the longest row [Q, N, 2], and which are not padding [Q, N]."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    windows = np.zeros((len(rows), lengths.max(initial=1), 2))
    for q, row in enumerate(rows):
        if row:
            windows[q, : len(row)] = [window[:2] for window in row]
    return windows, np.arange(windows.shape[1]) < lengths[:, None]
