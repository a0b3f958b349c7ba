"""Pictures to the tower's input: letterbox, then normalise; the format's definition, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmduet.video.letterbox import letterbox, normalise


def frames_to_pixels(images: Sequence[NDArray[np.uint8]], size: int) -> Tensor:
    """RGB pictures ``uint8 [H, W, 3]`` to float32 [B, 3, size, size]."""
    return torch.from_numpy(np.stack([normalise(letterbox(image, size)) for image in images]))
