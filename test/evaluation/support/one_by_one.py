"""Simple, slow evaluation of QVHighlights and grounding: one query, one setting and one frame at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Json = dict[str, Any]
Window = Callable[[int], tuple[int, int]]


def smoothed(scores: Sequence[float], before: int, after: int) -> list[float]:
    """Mean over [i - before, i + after], clipped to the list."""
    return [float(np.mean(scores[max(0, i - before) : i + after + 1])) for i in range(len(scores))]


def normalised(scores: Sequence[float]) -> list[float]:
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else math.nan for score in scores]


def normalised_so_far(scores: Sequence[float]) -> list[float]:
    return [normalised(scores[: i + 1])[i] for i in range(len(scores))]


def frame_iou(scores: Sequence[float], gold: Sequence[bool], threshold: float) -> float:
    predicted = [score >= threshold for score in scores]  # never where the score is NaN
    both = sum(p and g for p, g in zip(predicted, gold, strict=True))
    either = sum(p or g for p, g in zip(predicted, gold, strict=True))
    return both / either if either else 0.0


def grounding_ious(row: Json, spans: Sequence[Sequence[float]], before: int, after: int, causal: bool) -> list[float]:
    """IoU of one query at each of the sweep's thresholds, 0.5 itself at the end."""
    gold = [any(s <= frame["time"] <= e for s, e in spans) for frame in row["debug_data"]]
    smooth = smoothed([frame.get("relevance_score", 0) for frame in row["debug_data"]], before, after)
    scores = normalised_so_far(smooth) if causal else normalised(smooth)
    return [frame_iou(scores, gold, threshold) for threshold in [*np.arange(0.30, 0.71, 0.02), 0.5]]


def clip_scores(row: Json, before: int, after: int) -> list[float]:
    """Sums over runs of int(2 / interval) frames."""
    frames = row["debug_data"]
    scores = smoothed([frame.get("relevance_score", 0) for frame in frames], before, after)
    per_clip = int(2 / (frames[1]["time"] - frames[0]["time"]))
    return [sum(scores[i : i + per_clip]) for i in range(0, len(scores), per_clip)]


def clip_scores_by_time(row: Json, before: int, after: int) -> list[float]:
    """Sums over the frames that lie in each 2 s."""
    frames = row["debug_data"]
    scores = smoothed([frame.get("relevance_score", 0) for frame in frames], before, after)
    sums = [0.0] * (int(frames[-1]["time"] / 2) + 1)
    for frame, score in zip(frames, scores, strict=True):
        sums[int(frame["time"] / 2)] += score
    return sums


def average_precision(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Thresholds from the highest score down; at each, how many clips reach it and how many of these are positive."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        reached = [p for score, p in zip(scores, positive, strict=True) if score >= threshold]
        points.append((sum(reached), sum(reached) / len(reached)))
    levels = sorted({found for found, _ in points if found > 0})
    best = [max(precision for found, precision in points if found >= level) for level in levels]
    return sum(best) / len(best) if best else 0.0


def highlight_scores(scores: Sequence[float], query: Json) -> dict[str, float]:
    """AP (mean over annotators) and HIT@1 of one query at each level, in [0, 1]."""
    clips = int(query["duration"] / 2)
    ratings = np.zeros((clips, 3))
    ratings[query["relevant_clip_ids"]] = np.array(query["saliency_scores"]).reshape(-1, 3)
    fitted = (list(scores) + [0.0] * clips)[:clips]
    top = scores.index(max(scores))
    result = {}
    for level, least in (("Fair", 2), ("Good", 3), ("VeryGood", 4)):
        positive = (ratings >= least).T.tolist()
        result[f"HL-min-{level}-mAP"] = sum(average_precision(fitted, of_one) for of_one in positive) / 3
        result[f"HL-min-{level}-Hit1"] = float(top < clips and any(of_one[top] for of_one in positive))
    return result


def synthetic_frames(
    question_id: object, seconds: float, fps: float, spans: Sequence[Sequence[float]], rng: np.random.Generator
) -> Json:
    """A prediction whose relevance, of 3 decimals, is higher in the spans; some are saturated, so that there are ties."""
    times = np.arange(math.ceil(seconds * fps)) / fps
    inside = np.array([any(s <= t <= e for s, e in spans) for t in times])
    logits = rng.normal(-2, 1.5) + 2 * inside + rng.normal(size=len(times)) * rng.choice([0.3, 1.0, 4.0])
    with warnings.catch_warnings():
        relevance = np.round(1 / (1 + np.exp(-logits)), 3)
    if rng.random() < 0.05:
        relevance[:] = relevance[0]  # constant
    frames = [
        {"time": float(t), "informative_score": 0.0, "relevance_score": float(r)}
        for t, r in zip(times, relevance, strict=True)
    ]
    return {"question_id": question_id, "video_duration": seconds, "model_response_list": [], "debug_data": frames}
