"""The vision tower's input: letterboxed images, normalised."""

from __future__ import annotations

from torch import Tensor


def normalize_images(images: Tensor) -> Tensor:
    """Normalise letterboxed RGB images: uint8 [N, S, S, 3] to float32 [N, 3, S, S] in [-1, 1], on their device."""
    return (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
