"""Highlight detection: from relevance scores over time to the saliency of fixed-length clips; no model, no video."""

from __future__ import annotations

from collections.abc import Sequence

CLIP_SECONDS = 2.0  # QVHighlights


def clip_saliency(
    times: Sequence[float], scores: Sequence[float], duration: float, clip: float = CLIP_SECONDS
) -> list[float]:
    """Sum of the relevance scores of each clip's frames; int(duration / clip) clips, a tail is left out."""
    saliency = [0.0] * int(duration / clip)
    for time, score in zip(times, scores, strict=True):
        place = int(time / clip)
        if place < len(saliency):
            saliency[place] += score
    return saliency


def top_clip(saliency: Sequence[float]) -> int:
    """The first clip of greatest saliency."""
    return max(range(len(saliency)), key=lambda i: saliency[i])
