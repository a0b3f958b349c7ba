"""Choose the frames of a sample among those of its video, and read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmduet.annotations.training_samples import Sample
from mmduet.errors import VideoError
from mmduet.training.recipe import Sampling
from mmduet.training.video_index import Times
from mmduet.video import VideoFile
from mmduet.video.container import as_video_error


def choose_frames(sample: Sample, times: Times, sampling: Sampling, rng: np.random.Generator | None) -> Times:
    """Return the times [F] of the frames to train on, at most ``max_frames`` of ``times``, which has at least one.

    That is a random crop; without ``rng`` the earliest one. The first question of a ``qa`` sample has a random number of
    frames before it, at most ``max_frames_before_question``; if the frames after it do not fit, the crop may also begin later.
    A conversation is about the whole video, so its frames are evenly spread over it.
    """
    if sample.kind == "conversation":
        return spread_evenly(times, sampling.max_frames)
    first, last = 0, max(0, len(times) - sampling.max_frames)
    if sample.kind == "qa" and sample.queries:
        question = int(np.searchsorted(times, sample.queries[0].time))  # the first frame after the question
        first, last = max(0, question - sampling.max_frames_before_question), max(question, last)
    start = first if rng is None else int(rng.integers(first, last + 1))
    return times[start : start + sampling.max_frames]


def spread_evenly(times: Times, max_frames: int) -> Times:
    """Return at most ``max_frames`` of ``times`` at even distances, the first and the last among them."""
    if len(times) <= max_frames:
        return times
    return times[np.rint(np.linspace(0, len(times) - 1, max_frames)).astype(np.intp)]


class _AtTimes:
    """A sampler that selects the frames at given ascending times."""

    def __init__(self, times: list[float]) -> None:
        self._times, self._next = times, 0

    def accept(self, time: float) -> bool:
        is_selected = self._next < len(self._times) and time == self._times[self._next]
        self._next += is_selected
        return is_selected


def read_frames(path: Path, times: Times, size: int) -> NDArray[np.uint8]:
    """Return the letterboxed frames at ``times``, as ``VideoIndex`` has them: uint8 [F, size, size, 3].

    Only these frames and those from which they are predicted are decoded. Raises ``VideoError`` if one cannot be decoded.
    """
    images = np.empty((len(times), size, size, 3), np.uint8)
    count, stamps = 0, times.tolist()
    with VideoFile(path, threads=1) as file:
        for frame in file.decode(_AtTimes(stamps)):
            with as_video_error(path):
                images[count] = frame.to_letterboxed(size)
            count += 1
            if count == len(stamps):
                return images
    raise VideoError(f"{path}: the frame at {stamps[count]:.3f} s cannot be decoded; copy or encode the file again")
