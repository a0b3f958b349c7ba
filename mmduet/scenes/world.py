"""The exact description of a scene: objects on tracks, and their state at any time.

Coordinates are fractions of the frame's side, x to the right and y downwards; times are seconds. A thing's track is
piecewise linear, so that the moment a movement ends is the moment the thing stands still.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

Size = Literal["small", "big"]
Shape = Literal["circle", "square", "triangle", "star", "cross"]
EventKind = Literal["enter", "leave", "move", "turn", "grow", "shrink", "touch", "hide", "reveal"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (240, 225, 50),
    "green": (40, 185, 70),
    "blue": (45, 90, 240),
    "purple": (165, 60, 210),
    "white": (245, 245, 245),
}
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "star", "cross")
RADII: dict[Size, float] = {"small": 0.115, "big": 0.19}
#: Shapes whose big form covers a small thing wholly.
COVERING: frozenset[Shape] = frozenset({"circle", "square"})


@dataclass
class Track:
    """A piecewise linear value over time; constant before the first key and after the last."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def at(self, time: float) -> float:
        """The value at ``time``."""
        place = bisect_right(self.times, time)
        if place == 0:
            return self.values[0]
        if place == len(self.times):
            return self.values[-1]
        t0, t1 = self.times[place - 1], self.times[place]
        share = (time - t0) / (t1 - t0) if t1 > t0 else 1.0
        return self.values[place - 1] + share * (self.values[place] - self.values[place - 1])

    def ramp(self, start: float, end: float, value: float) -> None:
        """Hold the present value until ``start``, then go straight to ``value`` at ``end``."""
        self.times += [start, end]
        self.values += [self.values[-1], value]


@dataclass
class SceneObject:
    """One object: its shape never changes, its place, size and colour follow tracks; the higher of two depths is nearer."""

    shape: Shape
    colours: list[tuple[float, str]]  # (from time, colour), in order
    size: Size
    x: Track
    y: Track
    radius: Track
    depths: list[tuple[float, float]]  # (from time, depth), in order
    tilt: float = 0.0  # radians
    tint: tuple[int, int, int] = (0, 0, 0)  # added to the colour, so that no two reds are quite alike
    entered: float = 0.0
    left: float | None = None
    hidden: list[list[float]] = field(default_factory=list)  # [from, to] while wholly behind another thing

    def colour_at(self, time: float) -> str:
        """The name of its colour at ``time``."""
        place = bisect_right([start for start, _ in self.colours], time)
        return self.colours[max(place - 1, 0)][1]

    def depth_at(self, time: float) -> float:
        """Its depth at ``time``."""
        place = bisect_right([start for start, _ in self.depths], time)
        return self.depths[max(place - 1, 0)][1]

    def name_at(self, time: float) -> str:
        """What a caption calls it at ``time``: colour and shape."""
        return f"{self.colour_at(time)} {self.shape}"

    def on_stage(self, time: float) -> bool:
        """Whether any of it can be in the picture (hidden things count)."""
        return self.entered <= time and (self.left is None or time < self.left)


@dataclass(frozen=True)
class Event:
    """Something that happens between ``start`` and ``end``; ``text`` is its caption, exact by construction."""

    kind: EventKind
    start: float
    end: float
    text: str
    subject: str
    other: str | None = None


@dataclass
class Scene:
    """A whole clip: duration in seconds, every thing that ever appears, every event in order of time."""

    duration: float
    objects: list[SceneObject]
    events: list[Event]
    contacts: list[tuple[SceneObject, SceneObject, float, float]]  # (mover, stander, from, to) while they touch
