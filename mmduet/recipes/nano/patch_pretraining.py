"""The tower's first lessons, on single frames: at every patch, what is there, of which colour and shape, how far its centre.

A tower trained through a language model's words alone learns colours and places quickly but confuses shapes. Dense lessons
(64 answers a picture) cure that in minutes. The lesson heads are thrown away; only the tower is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from mmduet.model.config import VisionShape
from mmduet.model.tower import Tower
from mmduet.recipes.nano.scene_description import visible
from mmduet.scenes.world import COLOURS, SHAPES
from mmduet.training.frames import FrameStore
from mmduet.training.losses import Losses, to_pixels

COLOUR_CLASS: dict[str, int] = {name: i for i, name in enumerate(COLOURS, start=1)}  # 0: backdrop
SHAPE_CLASS: dict[str, int] = {name: i for i, name in enumerate(SHAPES, start=1)}
REACH = 0.9  # a patch belongs to a thing if its centre is within this share of the thing's radius


class Lessons(nn.Module):
    """The tower and the lesson heads."""

    def __init__(self, tower: Tower, shape: VisionShape) -> None:
        super().__init__()
        self.tower = tower
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.answers = nn.Linear(shape.hidden_size, len(COLOURS) + 1 + len(SHAPES) + 1 + 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures [B, 3, S, S] to colour logits [B, P, 8], shape logits [B, P, 6], geometry [B, P, 3]."""
        answers = self.answers(self.norm(self.tower(pixels)))
        colour, shape, geometry = answers.split([len(COLOURS) + 1, len(SHAPES) + 1, 3], dim=-1)
        return colour, shape, geometry


class LessonBook:
    """Random frames with their patch labels, as a pure function of (seed, step)."""

    def __init__(
        self, store: FrameStore, boxes: dict[str, list[list[list[Any]]]], fps: float, grid: int, size: int, seed: int
    ) -> None:
        self._store, self._boxes, self._fps, self._grid, self._size, self._seed = store, boxes, fps, grid, size, seed
        self._names = list(boxes)

    def page(self, step: int) -> tuple[Tensor, NDArray[np.int64], NDArray[np.float32]]:
        """Pixels [B, 3, S, S], classes [B, P, 2] (colour, shape), geometry [B, P, 3]."""
        rng = np.random.default_rng([self._seed, step])
        pictures, classes, geometry = [], [], []
        for _ in range(self._size):
            name = self._names[int(rng.integers(len(self._names)))]
            times = self._store.times(name)
            k = int(rng.integers(len(times)))
            boxes = self._boxes[name][min(round(float(times[k]) * self._fps), len(self._boxes[name]) - 1)]
            a, b = label_patches(boxes, self._grid)
            pictures.append(self._store.pictures(name)[k])
            classes.append(a)
            geometry.append(b)
        return to_pixels(torch.from_numpy(np.stack(pictures))), np.stack(classes), np.stack(geometry)


def label_patches(boxes: Sequence[Sequence[Any]], grid: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels of a frame's patches, row by row; nearer things (later in the list) cover farther ones.

    The patch in which the centre of a thing lies is the thing's, however small it is, unless something nearer covers it.
    """
    y, x = _middles(grid)
    classes = np.zeros((grid, grid, 2), np.int64)
    geometry = np.zeros((grid, grid, 3), np.float32)
    shown = [id(box) for box in visible(boxes)]
    for box in boxes:
        colour, shape, cx, cy, radius = box
        inside = np.hypot(x - cx, y - cy) < radius * REACH
        if id(box) in shown:
            inside[min(int(cy * grid), grid - 1), min(int(cx * grid), grid - 1)] = True
        classes[inside] = COLOUR_CLASS[colour], SHAPE_CLASS[shape]
        geometry[inside] = np.stack([(cx - x) * 5, (cy - y) * 5, np.full_like(x, radius * 5)], -1)[inside]
    return classes.reshape(-1, 2), geometry.reshape(-1, 3)


@cache
def _middles(grid: int) -> NDArray[np.float64]:
    """The middles of a grid's patches, y and x [2, G, G]; not to be written to."""
    return (np.mgrid[0:grid, 0:grid] + 0.5) / grid


def lesson_loss(lessons: Lessons, book: LessonBook, step: int) -> Losses:
    """Cross-entropy of colour and shape on all patches, smooth L1 of the geometry on covered ones."""
    pixels, classes, geometry = book.page(step)
    want = torch.from_numpy(classes)
    colour, shape, place = lessons(pixels)
    covered = want[..., 0] > 0
    parts = {
        "colour": cross_entropy(colour.flatten(0, 1).float(), want[..., 0].flatten()),
        "shape": cross_entropy(shape.flatten(0, 1).float(), want[..., 1].flatten()),
        "place": smooth_l1_loss(place[covered].float(), torch.from_numpy(geometry)[covered]),
    }
    right = (shape.argmax(-1) == want[..., 1])[covered].float().mean()
    return Losses(
        torch.stack(list(parts.values())).sum(),
        {**{k: float(v.detach()) for k, v in parts.items()}, "shape_right": float(right)},
    )
