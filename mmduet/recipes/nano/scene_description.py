"""Describe the objects in view from a frame's boxes: the answers to side questions, which teach an LM to read frames.

Captions have a dozen tokens every few seconds, which is too little to learn which visual tokens encode a colour or a shape.
Side questions at random frames ("What do you see?") train this directly, and users can ask them when the model is served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmduet.scenes.world import RADII

NOTHING = "nothing"


def describe(boxes: Sequence[Sequence[Any]]) -> str:
    """Return the visible objects from left to right; ``boxes`` are [colour, shape, x, y, radius], far to near."""
    names = [
        f"a {size_word(box[4])} {box[0]} {box[1]}" for box in sorted(visible_boxes(boxes), key=lambda b: float(b[2]))
    ]
    return ", ".join(names) or NOTHING


def visible_boxes(boxes: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the boxes that are in view and not covered by a nearer one."""
    return [box for k, box in enumerate(boxes) if in_view(box) and not any(covers(b, box) for b in boxes[k + 1 :])]


def in_view(box: Sequence[Any]) -> bool:
    """Return whether the object's centre is in the frame."""
    return bool(0 <= box[2] <= 1 and 0 <= box[3] <= 1)


def covers(near: Sequence[Any], far: Sequence[Any]) -> bool:
    """Return whether most of ``far`` is behind ``near``."""
    centre_hidden = math.hypot(near[2] - far[2], near[3] - far[3]) + far[4] / 2 < near[4]
    return bool(centre_hidden and far[4] <= near[4])


def size_word(radius: float) -> str:
    """Return "small" or "big", whichever size is nearer to ``radius``."""
    return "small" if radius < (RADII["small"] + RADII["big"]) / 2 else "big"
