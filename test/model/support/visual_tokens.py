"""The visual tokens of images, computed step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.model.network import DuetModel
from mmduet.model.preprocess import normalize_images
from mmduet.video import letterbox


def embed_pixels(model: DuetModel, pixels: Tensor) -> Tensor:
    """Return the visual tokens [B, K, D] of normalised images [B, 3, S, S]."""
    tokens: Tensor = model.projector(model.features(pixels))
    return tokens


def embed_images(model: DuetModel, images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return the visual tokens [B, K, D] of RGB images of any size."""
    size = model.config.vision.image_size
    return embed_pixels(
        model, normalize_images(torch.from_numpy(np.stack([letterbox(image, size) for image in images])))
    )
