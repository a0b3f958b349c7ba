"""The tower's input from images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmduet.model.preprocess import normalize_images


def test_every_level_is_normalised_in_float32_arithmetic_to_the_bit() -> None:
    """Over 255, minus .5, over .5, as the published checkpoints were fed."""
    levels = np.arange(256, dtype=np.uint8)
    images = np.stack([levels.reshape(16, 16), levels[::-1].reshape(16, 16), levels.reshape(16, 16).T], -1)
    expected = (images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    pixels = normalize_images(torch.from_numpy(images)[None])
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[0], torch.from_numpy(expected.transpose(2, 0, 1).copy()))


def test_channels_come_first_and_values_lie_between_minus_one_and_one() -> None:
    images = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    images[0, 0, 1] = torch.tensor((255, 51, 0))
    pixels = normalize_images(images)
    assert pixels.shape == (1, 3, 2, 2)
    assert pixels[0, :, 0, 1].tolist() == pytest.approx([1.0, -0.6, -1.0])
    assert pixels[0, :, 0, 0].tolist() == [-1.0, -1.0, -1.0]
