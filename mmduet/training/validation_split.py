"""Divide the samples of a recipe into those that are trained on and those that are kept for validation."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from mmduet.errors import TrainingError
from mmduet.training.data_sets import SourceSample


def split_samples(
    samples: Sequence[SourceSample], share: float, seed: int
) -> tuple[list[SourceSample], list[SourceSample]]:
    """Return the samples for training and those for validation, which are about ``share`` of the videos.

    All samples of a video are on one side. Which videos are kept depends on their file names and ``seed`` only. Raises
    ``TrainingError`` if one side would be empty.
    """
    if not share:
        return list(samples), []
    videos = sorted(
        {source.path.name for source in samples}, key=lambda name: sha256(f"{seed} {name}".encode()).digest()
    )
    kept = set(videos[: max(1, round(share * len(videos)))])
    if len(kept) == len(videos):
        raise TrainingError(
            f"validation.share {share:g} of {len(videos)} videos leaves none for training; lower it or add videos"
        )
    training = [source for source in samples if source.path.name not in kept]
    return training, [source for source in samples if source.path.name in kept]


def choose_samples(samples: Sequence[SourceSample], count: int, seed: int) -> list[SourceSample]:
    """Return at most ``count`` samples; which ones depends on their ids and ``seed`` only."""
    return sorted(samples, key=lambda source: sha256(f"{seed} {source.id}".encode()).digest())[:count]
