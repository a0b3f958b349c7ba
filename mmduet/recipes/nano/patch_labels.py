"""Label each visual token's patch from exact boxes: how its object moves, and what the patch contained before.

Directions and contacts are visible only over several frames, and captions, one every three seconds, teach them slowly.
Labels are NumPy arrays. ``classes`` [K, 2] are colour and shape of the object in each of a frame's K patches, 0 if it is empty.
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
PatchLabels = tuple[Ints, NDArray[np.float32]]  # classes [K, 2] and geometry [K, 3] of one frame
Boxes = Sequence[Sequence[Any]]  # [colour, shape, x, y, radius] each, in frame sides
Identity = tuple[int, int]  # colour class, shape class
Circle = tuple[float, float, float]  # centre x and y, radius, in frame sides

LAG_FRAMES = 4  # one second at nano's frame rate, about the duration of the longest events
UNCHANGED, CHANGED = 0, 1
BACKWARD, STILL, FORWARD = 0, 1, 2  # direction along an axis
ALONE, TOUCHING = 0, 1
BYSTANDER, SUBJECT, OTHER = 0, 1, 2  # role of an object in an event
PAST_SLOTS = (COLOUR_CLASS, SHAPE_CLASS) * 2  # contents of a patch one frame and ``LAG_FRAMES`` frames ago
#: Directions of a patch's object along x and y since one frame and since ``LAG_FRAMES`` frames ago; whether it touches another.
MOTION_SLOT_SIZES = (3, 3, 3, 3, 2)
MIN_CHANGE = 0.05  # in scaled geometry, where 1 is a fifth of the frame's side
MIN_STEP = 0.03  # in frame sides; less counts as still


def label_changes(frames: Sequence[PatchLabels]) -> Ints:
    """Return UNCHANGED or CHANGED for each patch since the previous frame [F, K].

    IGNORE in the first frame, and for patches that are empty in both frames.
    """
    changes = np.full((len(frames), len(frames[0][0])), IGNORE)
    for k in range(1, len(frames)):
        (before, old_geometry), (now, geometry) = frames[k - 1], frames[k]
        changed = (now != before).any(1) | (np.abs(geometry - old_geometry) > MIN_CHANGE).any(1)
        changes[k] = np.where(_occupied(before, now), np.where(changed, CHANGED, UNCHANGED), IGNORE)
    return changes


def label_past_contents(frames: Sequence[PatchLabels]) -> Ints:
    """Return the past classes of each patch [F, K, 4], in the order of ``PAST_SLOTS``."""
    return np.concatenate([_past_classes(frames, 1), _past_classes(frames, LAG_FRAMES)], axis=-1)


def _past_classes(frames: Sequence[PatchLabels], lag: int) -> Ints:
    """Return the classes of each patch ``lag`` frames ago [F, K, 2].

    IGNORE before the first frame, and for patches that are empty in both frames.
    """
    past = np.full((len(frames), *frames[0][0].shape), IGNORE)
    for k in range(lag, len(frames)):
        before, now = frames[k - lag][0], frames[k][0]
        past[k] = np.where(_occupied(before, now)[:, None], before, IGNORE)
    return past


def label_motion(frames: Sequence[PatchLabels], boxes: Sequence[Boxes]) -> Ints:
    """Return the motion of the object in each patch [F, K, 5], in the order of ``MOTION_SLOT_SIZES``."""
    classes, objects = [labels[0] for labels in frames], [_objects_in_view(frame) for frame in boxes]
    directions = [_label_directions(classes, objects, lag) for lag in (1, LAG_FRAMES)]
    return np.concatenate([*directions, _label_contacts(classes, objects)[..., None]], axis=-1)


def label_roles(stage: int, event: Event | None, classes: Ints) -> Ints:
    """Return the role in the event of the object in each patch [K].

    IGNORE for empty patches, for the other object before the event has ended, and for all if the event started before the
    first frame.
    """
    if stage == IGNORE:
        return np.full(len(classes), IGNORE)
    roles = np.where(classes[:, 0] > 0, BYSTANDER, IGNORE)
    if event is not None:
        colour, shape, *other, _, new_colour, _, _ = caption_classes(event)
        ended = stage >= ENDED
        roles[(classes == other).all(1) & (classes[:, 0] > 0)] = OTHER if ended else IGNORE
        roles[(classes == (new_colour if ended and new_colour else colour, shape)).all(1)] = SUBJECT
    return roles


def label_query_matches(frames: Sequence[PatchLabels], named: tuple[int, int, int]) -> Ints:
    """Return 1 for each patch whose object has the named colour and shape, else 0 [F, K].

    IGNORE everywhere if neither is named.
    """
    colour, shape, _ = named
    classes = np.stack([labels[0] for labels in frames])  # [F, K, 2]
    if not (colour or shape):
        return np.full(classes.shape[:2], IGNORE)
    matches = classes[..., 0] > 0
    if colour:
        matches &= classes[..., 0] == colour
    if shape:
        matches &= classes[..., 1] == shape
    return matches.astype(np.int64)


def _occupied(before: Ints, now: Ints) -> NDArray[np.bool_]:
    """Return which patches [K] are or were occupied. Most are empty, and their labels would outweigh the others."""
    occupied: NDArray[np.bool_] = (now[:, 0] > 0) | (before[:, 0] > 0)
    return occupied


def _objects_in_view(boxes: Boxes) -> dict[Identity, Circle]:
    return {
        (COLOUR_CLASS[b[0]], SHAPE_CLASS[b[1]]): (float(b[2]), float(b[3]), float(b[4])) for b in boxes if in_view(b)
    }


def _label_directions(classes: Sequence[Ints], objects: Sequence[dict[Identity, Circle]], lag: int) -> Ints:
    """Return the direction of each patch's object along x and y since ``lag`` frames ago [F, K, 2].

    IGNORE for empty patches, and for an object whose centre was out of view or whose colour was different then.
    """
    labels = np.full((len(classes), *classes[0].shape), IGNORE)
    for k in range(lag, len(classes)):
        for identity in objects[k].keys() & objects[k - lag].keys():
            (x, y, _), (x0, y0, _) = objects[k][identity], objects[k - lag][identity]
            labels[k][(classes[k] == identity).all(1)] = _direction(x - x0), _direction(y - y0)
    return labels


def _label_contacts(classes: Sequence[Ints], objects: Sequence[dict[Identity, Circle]]) -> Ints:
    """Return ALONE or TOUCHING for each patch's object [F, K]; IGNORE for empty patches.

    A hidden object touches the one in front of it, which teaches the model to remember hidden objects.
    """
    labels = np.full((len(classes), len(classes[0])), IGNORE)
    for k, circles in enumerate(objects):
        for identity, circle in circles.items():
            touches = any(_overlap(circle, other) for key, other in circles.items() if key != identity)
            labels[k][(classes[k] == identity).all(1)] = TOUCHING if touches else ALONE
    return labels


def _direction(step: float) -> int:
    return STILL if abs(step) < MIN_STEP else FORWARD if step > 0 else BACKWARD


def _overlap(a: Circle, b: Circle) -> bool:
    return math.hypot(a[0] - b[0], a[1] - b[1]) < a[2] + b[2]
