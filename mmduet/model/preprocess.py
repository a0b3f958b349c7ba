"""The vision tower's input: letterboxed images, normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.video.letterbox import letterbox


def normalize_images(images: Tensor) -> Tensor:
    """Normalise letterboxed RGB images: uint8 [N, S, S, 3] to float32 [N, 3, S, S] in [-1, 1], on their device."""
    return (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def frames_to_pixels(images: Sequence[NDArray[np.uint8]], size: int) -> Tensor:
    """Letterbox and normalise RGB images, each uint8 [H, W, 3], to float32 [N, 3, size, size]."""
    return normalize_images(torch.from_numpy(np.stack([letterbox(image, size) for image in images])))
