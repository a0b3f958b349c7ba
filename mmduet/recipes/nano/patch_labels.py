"""Label each visual token's patch from exact boxes: what its object does, and what the patch contained before.

Which way something went and what it met are seen only over several frames; captions, one in three seconds, teach that slowly.
Labels are NumPy arrays; ``classes`` are [K, 2], colour and shape of what each of a frame's K cells holds, 0 where it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.duet import IGNORE
from mmduet.recipes.nano.event_labels import ENDED, Event, caption_classes
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS
from mmduet.recipes.nano.scene_description import in_view

Ints = NDArray[np.int64]
PatchLabels = tuple[Ints, NDArray[np.float32]]  # of a frame: classes [K, 2] and geometry [K, 3]
Boxes = Sequence[Sequence[Any]]  # [colour, shape, x, y, radius] each, in frame sides
Identity = tuple[int, int]  # class of its colour, of its shape
Place = tuple[float, float, float]  # centre and radius, in frame sides

AGO = 4  # frames: a second at nano's rate, about as long as the longest events take
UNCHANGED, CHANGED = 0, 1
BACK, STILL, FORTH = 0, 1, 2  # along an axis
ALONE, TOUCHING = 0, 1
BYSTANDER, SUBJECT, OTHER = 0, 1, 2  # what a thing is in an event
BEFORE = (COLOUR_CLASS, SHAPE_CLASS) * 2  # what a cell held a frame ago, and ``AGO`` frames ago
#: Which way what a cell holds has gone since a frame ago and since ``AGO`` frames ago, along x and y; whether it touches.
MOTION = (3, 3, 3, 3, 2)
LEAST_CHANGE = 0.05  # of the scaled geometry: a hundredth of the frame's side
LEAST_STEP = 0.03  # of the frame's side: less is standing still


def label_changes(maps: Sequence[PatchLabels]) -> Ints:
    """UNCHANGED or CHANGED for each cell since the frame before [F, K].

    IGNORE on the first frame, and where nothing is nor was.
    """
    changes = np.full((len(maps), len(maps[0][0])), IGNORE)
    for k in range(1, len(maps)):
        (then, place), (now, new_place) = maps[k - 1], maps[k]
        other = (now != then).any(1) | (np.abs(new_place - place) > LEAST_CHANGE).any(1)
        changes[k] = np.where(_covered(then, now), np.where(other, CHANGED, UNCHANGED), IGNORE)
    return changes


def label_past_contents(maps: Sequence[PatchLabels]) -> Ints:
    """What each cell held [F, K, 4], in the order of ``BEFORE``."""
    return np.concatenate([_held(maps, 1), _held(maps, AGO)], axis=-1)


def _held(maps: Sequence[PatchLabels], ago: int) -> Ints:
    """What each cell held ``ago`` frames before [F, K, 2]; IGNORE where that was not seen, and where nothing is nor was."""
    held = np.full((len(maps), *maps[0][0].shape), IGNORE)
    for k in range(ago, len(maps)):
        then, now = maps[k - ago][0], maps[k][0]
        held[k] = np.where(_covered(then, now)[:, None], then, IGNORE)
    return held


def label_motion(maps: Sequence[PatchLabels], boxes: Sequence[Boxes]) -> Ints:
    """What the thing in each cell does [F, K, 5], in the order of ``MOTION``."""
    classes, seen = [m[0] for m in maps], [_places(frame) for frame in boxes]
    steps = [_moved(classes, seen, ago) for ago in (1, AGO)]
    return np.concatenate([*steps, _touching(classes, seen)[..., None]], axis=-1)


def label_roles(stage: int, event: Event | None, classes: Ints) -> Ints:
    """What the thing in each cell is in the event [K].

    IGNORE for an empty cell, for the other thing before the event has ended, and for all if its beginning was not seen.
    """
    if stage == IGNORE:
        return np.full(len(classes), IGNORE)
    roles = np.where(classes[:, 0] > 0, BYSTANDER, IGNORE)
    if event is not None:
        colour, shape, *other, _, turned, _, _ = caption_classes(event)
        over = stage >= ENDED
        roles[(classes == other).all(1) & (classes[:, 0] > 0)] = OTHER if over else IGNORE
        roles[(classes == (turned if over and turned else colour, shape)).all(1)] = SUBJECT
    return roles


def label_query_matches(maps: Sequence[PatchLabels], named: tuple[int, int, int]) -> Ints:
    """1 where a cell holds what is named by colour, shape or both, 0 elsewhere [F, K].

    IGNORE everywhere if no thing is named.
    """
    colour, shape, _ = named
    classes = np.stack([m[0] for m in maps])  # [F, K, 2]
    if not (colour or shape):
        return np.full(classes.shape[:2], IGNORE)
    fits = classes[..., 0] > 0
    if colour:
        fits &= classes[..., 0] == colour
    if shape:
        fits &= classes[..., 1] == shape
    return fits.astype(np.int64)


def _covered(then: Ints, now: Ints) -> NDArray[np.bool_]:
    """Cells [K] that hold something or did: most are empty, and would drown the others."""
    covered: NDArray[np.bool_] = (now[:, 0] > 0) | (then[:, 0] > 0)
    return covered


def _places(boxes: Boxes) -> dict[Identity, Place]:
    """Where everything in view is."""
    return {
        (COLOUR_CLASS[b[0]], SHAPE_CLASS[b[1]]): (float(b[2]), float(b[3]), float(b[4])) for b in boxes if in_view(b)
    }


def _moved(classes: Sequence[Ints], seen: Sequence[dict[Identity, Place]], ago: int) -> Ints:
    """Which way what each cell holds has gone since ``ago`` frames before, along x and y [F, K, 2].

    IGNORE for an empty cell, and for what had its centre out of view or another colour then.
    """
    labels = np.full((len(classes), *classes[0].shape), IGNORE)
    for k in range(ago, len(classes)):
        for identity in seen[k].keys() & seen[k - ago].keys():
            (x, y, _), (x0, y0, _) = seen[k][identity], seen[k - ago][identity]
            labels[k][(classes[k] == identity).all(1)] = _way(x - x0), _way(y - y0)
    return labels


def _touching(classes: Sequence[Ints], seen: Sequence[dict[Identity, Place]]) -> Ints:
    """ALONE or TOUCHING for what each cell holds [F, K]; IGNORE for an empty cell.

    What is hidden behind a thing touches it too: to say so, one must remember it, as one must to tell what comes out again.
    """
    labels = np.full((len(classes), len(classes[0])), IGNORE)
    for k, objects in enumerate(seen):
        for identity, place in objects.items():
            near = any(_overlap(place, other) for who, other in objects.items() if who != identity)
            labels[k][(classes[k] == identity).all(1)] = TOUCHING if near else ALONE
    return labels


def _way(step: float) -> int:
    return STILL if abs(step) < LEAST_STEP else FORTH if step > 0 else BACK


def _overlap(a: Place, b: Place) -> bool:
    return math.hypot(a[0] - b[0], a[1] - b[1]) < a[2] + b[2]
