"""What is in view right now, in words, from a frame's boxes: the side questions that teach an LM to read frames.

A caption is a dozen tokens every few seconds, too little to learn from which visual tokens a colour or a shape is read. Side
questions at any frame ("What do you see?") ask for just that, and the model can then be asked them when it serves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmduet.scenes.world import RADII

NOTHING = "nothing"


def describe(boxes: Sequence[Sequence[Any]]) -> str:
    """Everything in view from left to right; ``boxes`` are [colour, shape, x, y, radius], far to near."""
    names = [f"a {size_word(box[4])} {box[0]} {box[1]}" for box in sorted(visible(boxes), key=lambda b: float(b[2]))]
    return ", ".join(names) or NOTHING


def visible(boxes: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Those in the picture that nothing nearer covers."""
    return [box for k, box in enumerate(boxes) if in_view(box) and not any(covers(b, box) for b in boxes[k + 1 :])]


def in_view(box: Sequence[Any]) -> bool:
    """Whether its centre is in the picture."""
    return bool(0 <= box[2] <= 1 and 0 <= box[3] <= 1)


def covers(near: Sequence[Any], far: Sequence[Any]) -> bool:
    """Whether most of ``far`` is behind ``near``."""
    middle_hidden = math.hypot(near[2] - far[2], near[3] - far[3]) + far[4] / 2 < near[4]
    return bool(middle_hidden and far[4] <= near[4])


def size_word(radius: float) -> str:
    """Small or big, whichever is nearer."""
    return "small" if radius < (RADII["small"] + RADII["big"]) / 2 else "big"
