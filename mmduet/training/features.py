"""Compute a frozen tower's features of every stored frame once, so that training need not run the tower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.files import atomic_write
from mmduet.model.preprocess import normalize_images
from mmduet.model.tower import VisionTower
from mmduet.training.autocast import autocast
from mmduet.training.frames import FrameStore

BATCH_SIZE = 256


class FeatureStore:
    """Patch features of all frames, bfloat16 [N, P, V], in a memory-mapped file."""

    def __init__(self, path: Path, frames: FrameStore, patches: int, width: int) -> None:
        self._frames = frames
        self._data = np.memmap(path, np.uint16, "r").reshape(-1, patches, width)

    def __call__(self, name: str, first: int, count: int) -> Tensor:
        """Return the features [count, P, V] of a video's frames from ``first`` on."""
        start = self._frames.locate(name)[0] + first
        return torch.from_numpy(self._data[start : start + count].copy()).view(torch.bfloat16)


def build_features(
    tower: VisionTower, frames: FrameStore, path: Path, progress: Callable[[int, int], None]
) -> FeatureStore:
    """Compute the features of every frame into ``path``, unless this has been done."""
    images = frames.all_images
    shape = _features(tower, images[:1]).shape
    if not path.exists():
        with (
            atomic_write(path) as part,
            part.open("wb") as out,
            torch.inference_mode(),
            autocast(tower.device),
        ):
            for start in range(0, len(images), BATCH_SIZE):
                features = _features(tower, images[start : start + BATCH_SIZE])
                out.write(features.bfloat16().cpu().view(torch.uint16).numpy().tobytes())
                progress(min(start + BATCH_SIZE, len(images)), len(images))
    return FeatureStore(path, frames, shape[1], shape[2])


def _features(tower: VisionTower, images: NDArray[np.uint8]) -> Tensor:
    """Return the features [N, P, V] of images [N, S, S, 3], on the device of the tower."""
    return tower(normalize_images(torch.from_numpy(images.copy()).to(tower.device)))  # type: ignore[no-any-return]
