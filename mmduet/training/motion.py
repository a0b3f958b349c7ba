"""How the thing in each visual token's cell has moved, and whether it touches another, as lesson labels from exact boxes.

Which way something went and what it met are seen only over several frames; captions, one in three seconds, teach that slowly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.duet import IGNORE
from mmduet.training.looks import in_view

Ints = NDArray[np.int64]
Identity = tuple[int, int]  # class of its colour, of its shape
Place = tuple[float, float, float]  # centre and radius, in frame sides
BACK, STILL, FORTH = 0, 1, 2  # along an axis
LEAST_STEP = 0.03  # of the frame's side: less is standing still
ALONE, TOUCHING = 0, 1


def places(boxes: Sequence[Sequence[Any]], colours: dict[str, int], shapes: dict[str, int]) -> dict[Identity, Place]:
    """Where everything in view is; ``boxes`` are [colour, shape, x, y, radius]."""
    return {(colours[b[0]], shapes[b[1]]): (float(b[2]), float(b[3]), float(b[4])) for b in boxes if in_view(b)}


def moved(classes: Sequence[Ints], seen: Sequence[dict[Identity, Place]], ago: int) -> Ints:
    """Which way what each cell holds has gone since ``ago`` frames before, along x and y [F, K, 2].

    ``classes`` are [K, 2] for each frame. IGNORE for an empty cell, and for what was not in view then.
    """
    labels = np.full((len(classes), *classes[0].shape), IGNORE)
    for k in range(ago, len(classes)):
        for identity in seen[k].keys() & seen[k - ago].keys():
            (x, y, _), (x0, y0, _) = seen[k][identity], seen[k - ago][identity]
            labels[k][(classes[k] == identity).all(1)] = _way(x - x0), _way(y - y0)
    return labels


def touching(classes: Sequence[Ints], seen: Sequence[dict[Identity, Place]]) -> Ints:
    """ALONE or TOUCHING for what each cell holds [F, K]; IGNORE for an empty cell."""
    labels = np.full((len(classes), len(classes[0])), IGNORE)
    for k, things in enumerate(seen):
        for identity, place in things.items():
            near = any(_overlap(place, other) for who, other in things.items() if who != identity)
            labels[k][(classes[k] == identity).all(1)] = TOUCHING if near else ALONE
    return labels


def _way(step: float) -> int:
    return STILL if abs(step) < LEAST_STEP else FORTH if step > 0 else BACK


def _overlap(a: Place, b: Place) -> bool:
    return math.hypot(a[0] - b[0], a[1] - b[1]) < a[2] + b[2]
