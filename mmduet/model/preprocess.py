"""The vision tower's input: letterboxed images, normalised and split into patches."""

from __future__ import annotations

import torch
from torch import Tensor


def normalize_images(images: Tensor) -> Tensor:
    """Normalise letterboxed RGB images: uint8 [N, S, S, 3] to float32 [N, 3, S, S] in [-1, 1], on their device."""
    return normalize_values(images.permute(0, 3, 1, 2))


def normalize_values(values: Tensor) -> Tensor:
    """Return uint8 values of any shape as float32 in [-1, 1]."""
    return values.to(torch.float32, copy=True).div_(255).sub_(0.5).div_(0.5)


def split_patches(images: Tensor, patch_size: int) -> Tensor:
    """Split images [B, S, S, C] into patches [B, G*G, patch_size**2 * C], row by row. Pixels beyond the last patch are cut."""
    batch, size, _, channels = images.shape
    grid = size // patch_size
    side = grid * patch_size
    split = images[:, :side, :side].reshape(batch, grid, patch_size, grid, patch_size * channels)
    return split.transpose(2, 3).reshape(batch, grid * grid, patch_size**2 * channels)
