"""The exact description of a scene: objects, their state at any time, and events.

Coordinates are fractions of the frame's side, x to the right and y downwards; times are seconds. Tracks are piecewise linear,
so a movement has an exact end.
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
#: Shapes that, when big, cover a small object completely.
COVERING_SHAPES: frozenset[Shape] = frozenset({"circle", "square"})


@dataclass
class Track:
    """A piecewise linear function of time, constant before the first point and after the last."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def at(self, time: float) -> float:
        """Return the value at ``time``."""
        following = bisect_right(self.times, time)
        if following == 0:
            return self.values[0]
        if following == len(self.times):
            return self.values[-1]
        t0, t1 = self.times[following - 1], self.times[following]
        share = (time - t0) / (t1 - t0) if t1 > t0 else 1.0
        return self.values[following - 1] + share * (self.values[following] - self.values[following - 1])

    def ramp(self, start: float, end: float, value: float) -> None:
        """Keep the last value until ``start``, then change linearly to ``value`` at ``end``."""
        self.times += [start, end]
        self.values += [self.values[-1], value]


@dataclass
class SceneObject:
    """An object of constant shape whose position, radius, colour and depth change over time; a higher depth is nearer."""

    shape: Shape
    colours: list[tuple[float, str]]  # (from time, colour), in order
    size: Size
    x: Track
    y: Track
    radius: Track
    depths: list[tuple[float, float]]  # (from time, depth), in order
    tilt: float = 0.0  # radians
    tint: tuple[int, int, int] = (0, 0, 0)  # added to the colour, so that objects of one colour differ slightly
    entered: float = 0.0
    left: float | None = None
    hidden: list[list[float]] = field(default_factory=list)  # [from, to] while it is completely behind another object

    def colour_at(self, time: float) -> str:
        """Return the name of the colour at ``time``."""
        following = bisect_right([start for start, _ in self.colours], time)
        return self.colours[max(following - 1, 0)][1]

    def depth_at(self, time: float) -> float:
        """Return the depth at ``time``."""
        following = bisect_right([start for start, _ in self.depths], time)
        return self.depths[max(following - 1, 0)][1]

    def name_at(self, time: float) -> str:
        """Return the name in captions at ``time``: colour and shape."""
        return f"{self.colour_at(time)} {self.shape}"

    def is_present(self, time: float) -> bool:
        """Return whether the object is in the scene at ``time``, visible or hidden."""
        return self.entered <= time and (self.left is None or time < self.left)


@dataclass(frozen=True)
class Event:
    """An event between ``start`` and ``end``. ``text`` is its caption; ``subject`` and ``other`` are names of objects."""

    kind: EventKind
    start: float
    end: float
    text: str
    subject: str
    other: str | None = None


@dataclass
class Scene:
    """The content of a clip: all objects that appear, and all events in order of time."""

    duration: float
    objects: list[SceneObject]
    events: list[Event]
