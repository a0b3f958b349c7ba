"""Pretrain the tower on single frames: at every patch, classify colour and shape and regress the object's centre and radius.

A tower trained only through a language model's text learns colours and places quickly but confuses shapes. Dense labels (64 per
image) fix that in minutes. The heads are dropped afterwards; only the tower is kept.
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
from mmduet.model.preprocess import normalize_images
from mmduet.model.tower import VisionTower
from mmduet.recipes.nano.scene_description import visible_boxes
from mmduet.scenes.world import COLOURS, SHAPES
from mmduet.training.frames import FrameStore
from mmduet.training.losses import Losses

COLOUR_CLASS: dict[str, int] = {name: i for i, name in enumerate(COLOURS, start=1)}  # 0: background
SHAPE_CLASS: dict[str, int] = {name: i for i, name in enumerate(SHAPES, start=1)}
REACH = 0.9  # a patch belongs to an object if its centre is within this share of the object's radius


class PatchHeads(nn.Module):
    """The tower and the heads of its pretraining. Attribute names are those of saved training states."""

    def __init__(self, tower: VisionTower, shape: VisionShape) -> None:
        super().__init__()
        self.tower = tower
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.answers = nn.Linear(shape.hidden_size, len(COLOURS) + 1 + len(SHAPES) + 1 + 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for pixels [B, 3, S, S], colour logits [B, P, 8], shape logits [B, P, 6], geometry [B, P, 3]."""
        answers = self.answers(self.norm(self.tower(pixels)))
        colour, shape, geometry = answers.split([len(COLOURS) + 1, len(SHAPES) + 1, 3], dim=-1)
        return colour, shape, geometry


class PatchSampler:
    """Draws random frames with their patch labels, as a pure function of (seed, step)."""

    def __init__(
        self,
        store: FrameStore,
        boxes: dict[str, list[list[list[Any]]]],
        fps: float,
        grid: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._store, self._boxes, self._fps, self._grid = store, boxes, fps, grid
        self._batch_size, self._seed = batch_size, seed
        self._names = list(boxes)

    def batch(self, step: int) -> tuple[Tensor, NDArray[np.int64], NDArray[np.float32]]:
        """Return pixels [B, 3, S, S], classes [B, P, 2] (colour, shape), geometry [B, P, 3]."""
        rng = np.random.default_rng([self._seed, step])
        images, classes, geometry = [], [], []
        for _ in range(self._batch_size):
            name = self._names[int(rng.integers(len(self._names)))]
            times = self._store.times(name)
            k = int(rng.integers(len(times)))
            boxes = self._boxes[name][min(round(float(times[k]) * self._fps), len(self._boxes[name]) - 1)]
            a, b = label_patches(boxes, self._grid)
            images.append(self._store.images(name)[k])
            classes.append(a)
            geometry.append(b)
        return normalize_images(torch.from_numpy(np.stack(images))), np.stack(classes), np.stack(geometry)


def label_patches(boxes: Sequence[Sequence[Any]], grid: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the labels of a frame's patches, row by row. Nearer objects (later in the list) cover farther ones.

    The patch that contains an object's centre belongs to the object, however small it is, unless a nearer one covers it.
    """
    y, x = _patch_centres(grid)
    classes = np.zeros((grid, grid, 2), np.int64)
    geometry = np.zeros((grid, grid, 3), np.float32)
    visible_ids = [id(box) for box in visible_boxes(boxes)]
    for box in boxes:
        colour, shape, cx, cy, radius = box
        inside = np.hypot(x - cx, y - cy) < radius * REACH
        if id(box) in visible_ids:
            inside[min(int(cy * grid), grid - 1), min(int(cx * grid), grid - 1)] = True
        classes[inside] = COLOUR_CLASS[colour], SHAPE_CLASS[shape]
        geometry[inside] = np.stack([(cx - x) * 5, (cy - y) * 5, np.full_like(x, radius * 5)], -1)[inside]
    return classes.reshape(-1, 2), geometry.reshape(-1, 3)


@cache
def _patch_centres(grid: int) -> NDArray[np.float64]:
    """Return the centres of a grid's patches, y and x [2, G, G]. The array is shared: do not write to it."""
    return (np.mgrid[0:grid, 0:grid] + 0.5) / grid


def patch_losses(heads: PatchHeads, sampler: PatchSampler, step: int) -> Losses:
    """Return the cross-entropy of colour and shape on all patches and the smooth L1 of the geometry on covered ones."""
    pixels, classes, geometry = sampler.batch(step)
    device = heads.tower.device
    labels, places = torch.from_numpy(classes).to(device), torch.from_numpy(geometry).to(device)
    colour, shape, place = heads(pixels.to(device))
    covered = labels[..., 0] > 0
    parts = {
        "colour": cross_entropy(colour.flatten(0, 1).float(), labels[..., 0].flatten()),
        "shape": cross_entropy(shape.flatten(0, 1).float(), labels[..., 1].flatten()),
        "place": smooth_l1_loss(place[covered].float(), places[covered]),
    }
    accuracy = (shape.argmax(-1) == labels[..., 1])[covered].float().mean()
    return Losses(
        torch.stack(list(parts.values())).sum(),
        {**{k: float(v.detach()) for k, v in parts.items()}, "shape_right": float(accuracy)},
    )
