"""Writes a video whose frames can be identified by their brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmduet.video import VideoWriter


def write_brightening_video(path: Path, seconds: float, fps: float = 10.0, size: tuple[int, int] = (64, 64)) -> Path:
    """Write a grey video that gets brighter by 10 levels per second."""
    with VideoWriter(path, *size, fps) as writer:
        for k in range(round(seconds * fps)):
            writer.write(np.full((size[1], size[0], 3), round(10 * k / fps), np.uint8))
    return path
