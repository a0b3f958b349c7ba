"""Generate a scene's objects and events from a random generator.

Events do not overlap and are at least ``MIN_GAP`` seconds apart, so the time of every caption is unambiguous. Objects do not
pass close to others, so whatever looks like a touch is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mmduet.scenes.world import (
    COLOURS,
    COVERING_SHAPES,
    RADII,
    SHAPES,
    Event,
    EventKind,
    Scene,
    SceneObject,
    Shape,
    Size,
    Track,
)

MIN_GAP = 1.2  # seconds between the end of an event and the start of the next
MAX_GAP = 3.0
MIN_DISTANCE = 0.02  # between objects that do not touch, in frame sides
MAX_OBJECTS = 3
SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
EVENT_WEIGHTS: dict[EventKind, float] = {
    "enter": 3.0, "leave": 1.6, "move": 2.2, "turn": 1.8, "grow": 1.2, "shrink": 1.2, "touch": 3.0, "hide": 6.0, "reveal": 4.0,
}  # fmt: skip


@dataclass
class SceneGenerator:
    """Generates a scene event by event; all random choices are made by ``rng``."""

    rng: np.random.Generator
    duration: float
    objects: list[SceneObject] = field(default_factory=list)
    present: list[SceneObject] = field(default_factory=list)  # objects in the scene now
    events: list[Event] = field(default_factory=list)
    #: (moved, touched) by id of the moved object, while they are in contact
    touching: dict[int, tuple[SceneObject, SceneObject]] = field(default_factory=dict)
    #: (hidden, covering) by id of the hidden object
    behind: dict[int, tuple[SceneObject, SceneObject]] = field(default_factory=dict)

    def generate_scene(self) -> Scene:
        """Fill the duration with events and return the finished scene."""
        for _ in range(int(self.rng.integers(0, 3))):
            self._place_at_start()
        time = float(self.rng.uniform(0.6, 2.0))
        while time < self.duration - 1.6:
            end = self._next_event(time)
            time = (end if end is not None else time) + float(self.rng.uniform(MIN_GAP, MAX_GAP))
        return Scene(self.duration, self.objects, self.events)

    def _next_event(self, time: float) -> float | None:
        weights = dict(EVENT_WEIGHTS)
        if len(self.present) <= 1:
            weights["leave"] *= 0.3
        kinds = list(weights)
        p = np.array([weights[k] for k in kinds])
        for kind in self.rng.choice(kinds, size=len(kinds), replace=False, p=p / p.sum()):
            makers: dict[str, Callable[[float], Event | None]] = {
                "enter": self._enter, "leave": self._leave, "move": self._move, "turn": self._turn, "grow": self._resize,
                "shrink": self._resize, "touch": self._touch, "hide": self._hide, "reveal": self._reveal,
            }  # fmt: skip
            event = makers[str(kind)](time)
            if event is not None:
                self.events.append(event)
                return event.end
        return None

    # Objects

    def _free_objects(self) -> list[SceneObject]:
        """Return the present objects that are neither hidden nor hiding another, in random order."""
        occupied = {id(o) for pair in self.behind.values() for o in pair}
        free = [o for o in self.present if id(o) not in occupied]
        return [free[i] for i in self.rng.permutation(len(free))]

    def _unused_identity(self) -> tuple[str, Shape]:
        taken = {(t.colours[-1][1], t.shape) for t in self.present}
        while True:
            identity = (str(self.rng.choice(list(COLOURS))), SHAPES[int(self.rng.integers(len(SHAPES)))])
            if identity not in taken:
                return identity

    def _new_object(self, x: float, y: float, time: float) -> SceneObject:
        colour, shape = self._unused_identity()
        size: Size = "small" if self.rng.random() < 0.5 else "big"
        tint = tuple(int(v) for v in self.rng.integers(-12, 13, size=3))
        return SceneObject(
            shape=shape,
            colours=[(0.0, colour)],
            size=size,
            x=Track([0.0], [x]),
            y=Track([0.0], [y]),
            radius=Track([0.0], [RADII[size]]),
            depths=[(0.0, float(self.rng.random()))],
            tilt=float(self.rng.uniform(-0.15, 0.15)),
            tint=(tint[0], tint[1], tint[2]),
            entered=time,
        )

    # Geometry

    def _path_is_clear(self, moved: SceneObject, x: float, y: float, *, ignore: SceneObject | None = None) -> bool:
        """Return whether ``moved`` can go straight to (x, y) without coming near an object other than ``ignore``."""
        x0, y0 = moved.x.values[-1], moved.y.values[-1]
        partners = {id(s) for m, s in self.touching.values() if m is moved}
        partners |= {id(m) for m, s in self.touching.values() if s is moved}
        for other in self.present:
            if other is moved or other is ignore:
                continue
            ox, oy, reach = (
                other.x.values[-1],
                other.y.values[-1],
                moved.radius.values[-1] + other.radius.values[-1] + MIN_DISTANCE,
            )
            if id(other) in partners:  # in contact now: it must move away and end at a distance
                leaving = (x - x0) * (x0 - ox) + (y - y0) * (y0 - oy) > 0
                if not leaving or math.hypot(x - ox, y - oy) < reach:
                    return False
            elif _distance_to_segment(ox, oy, x0, y0, x, y) < reach:
                return False
        return True

    def _random_position(self, radius: float) -> tuple[float, float]:
        low, high = radius + 0.01, 1 - radius - 0.01
        return float(self.rng.uniform(low, high)), float(self.rng.uniform(low, high))

    def _move_to(self, obj: SceneObject, x: float, y: float, start: float, duration: float) -> float:
        obj.x.ramp(start, start + duration, x)
        obj.y.ramp(start, start + duration, y)
        self._end_contacts(obj)
        return start + duration

    def _end_contacts(self, obj: SceneObject) -> None:
        """End all contacts of ``obj``."""
        for key, (moved, touched) in list(self.touching.items()):
            if obj is moved or obj is touched:
                del self.touching[key]

    def _random_duration(self) -> float:
        return float(self.rng.uniform(0.6, 1.1))

    # Events: each method returns its event, or None if it is not possible now

    def _place_at_start(self) -> None:
        for _ in range(20):
            obj = self._new_object(0.5, 0.5, 0.0)
            x, y = self._random_position(obj.radius.values[-1])
            obj.x.values[0], obj.y.values[0] = x, y
            if self._path_is_clear(obj, x, y):
                self.objects.append(obj)
                self.present.append(obj)
                return

    def _enter(self, time: float) -> Event | None:
        if len(self.present) >= MAX_OBJECTS:
            return None
        for _ in range(20):
            obj = self._new_object(0.5, 0.5, time)
            r = obj.radius.values[-1]
            x, y = self._random_position(r)
            side, (dx, dy) = list(SIDES.items())[int(self.rng.integers(4))]
            x0, y0 = (x if dx == 0 else 0.5 + dx * (0.5 + r)), (y if dy == 0 else 0.5 + dy * (0.5 + r))
            obj.x.values[0], obj.y.values[0] = x0, y0
            if math.hypot(x - x0, y - y0) < 0.9 and self._path_is_clear(obj, x, y):
                end = self._move_to(obj, x, y, time, self._random_duration())
                self.objects.append(obj)
                self.present.append(obj)
                name = obj.name_at(time)
                return Event("enter", time, end, f"a {obj.size} {name} enters from the {side}", name)
        return None

    def _leave(self, time: float) -> Event | None:
        for obj in self._free_objects():
            for i in self.rng.permutation(4):
                side, (dx, dy) = list(SIDES.items())[i]
                r = obj.radius.values[-1]
                x0, y0 = obj.x.values[-1], obj.y.values[-1]
                x, y = (x0 if dx == 0 else 0.5 + dx * (0.52 + r)), (y0 if dy == 0 else 0.5 + dy * (0.52 + r))
                if math.hypot(x - x0, y - y0) < 0.9 and self._path_is_clear(obj, x, y):
                    end = self._move_to(obj, x, y, time, self._random_duration())
                    obj.left = end
                    self.present.remove(obj)
                    name = obj.name_at(time)
                    where = f"on the {side}" if dx else f"at the {side}"
                    return Event("leave", time, end, f"the {name} leaves {where}", name)
        return None

    def _move(self, time: float) -> Event | None:
        for obj in self._free_objects():
            for i in self.rng.permutation(4):
                direction, (dx, dy) = list(DIRECTIONS.items())[i]
                r, distance = obj.radius.values[-1], float(self.rng.uniform(0.25, 0.5))
                drift = float(self.rng.uniform(-0.06, 0.06))
                x, y = obj.x.values[-1] + dx * distance + dy * drift, obj.y.values[-1] + dy * distance + dx * drift
                if not (r < x < 1 - r and r < y < 1 - r) or not self._path_is_clear(obj, x, y):
                    continue
                end = self._move_to(obj, x, y, time, self._random_duration())
                name = obj.name_at(time)
                return Event("move", time, end, f"the {name} moves {direction}", name)
        return None

    def _turn(self, time: float) -> Event | None:
        for obj in self._free_objects():
            old = obj.name_at(time)
            taken = {(t.colours[-1][1], t.shape) for t in self.present}
            for colour in self.rng.permutation(list(COLOURS)):
                if (str(colour), obj.shape) not in taken:
                    end = time + 0.25
                    obj.colours.append((end, str(colour)))
                    return Event("turn", time, end, f"the {old} turns {colour}", old)
        return None

    def _resize(self, time: float) -> Event | None:
        for obj in self._free_objects():
            if any(obj in (m, s) for m, s in self.touching.values()):
                continue
            size: Size = "big" if obj.size == "small" else "small"
            x, y, r = obj.x.values[-1], obj.y.values[-1], RADII[size]
            others = [o for o in self.present if o is not obj]
            clear = all(
                math.hypot(x - o.x.values[-1], y - o.y.values[-1]) > r + o.radius.values[-1] + MIN_DISTANCE
                for o in others
            )
            if not clear or not (r - 0.03 < x < 1 - r + 0.03 and r - 0.03 < y < 1 - r + 0.03):
                continue
            end = time + 0.4
            obj.radius.ramp(time, end, r)
            obj.size = size
            name, kind = obj.name_at(time), "grow" if size == "big" else "shrink"
            return Event("grow" if size == "big" else "shrink", time, end, f"the {name} {kind}s", name)
        return None

    def _touch(self, time: float) -> Event | None:
        for obj in self._free_objects():
            for other in self._free_objects():
                if other is obj or any({id(m), id(s)} & {id(obj), id(other)} for m, s in self.touching.values()):
                    continue
                ox, oy = other.x.values[-1], other.y.values[-1]
                x0, y0 = obj.x.values[-1], obj.y.values[-1]
                away = math.hypot(x0 - ox, y0 - oy)
                reach = 0.8 * (obj.radius.values[-1] + other.radius.values[-1])  # a small, visible overlap
                if away < reach + 0.12:
                    continue
                x, y = ox + (x0 - ox) * reach / away, oy + (y0 - oy) * reach / away
                if not self._path_is_clear(obj, x, y, ignore=other):
                    continue
                end = self._move_to(obj, x, y, time, self._random_duration())
                obj.depths.append((time, max(t.depths[-1][1] for t in self.present) + 0.1))
                self.touching[id(obj)] = (obj, other)
                name, target = obj.name_at(time), other.name_at(time)
                return Event("touch", time, end, f"the {name} touches the {target}", name, target)
        return None

    def _hide(self, time: float) -> Event | None:
        for obj in self._free_objects():
            for other in self._free_objects():
                if other is obj or obj.size != "small" or other.size != "big" or other.shape not in COVERING_SHAPES:
                    continue
                if any(other in (m, s) and obj not in (m, s) for m, s in self.touching.values()):
                    continue
                x, y = other.x.values[-1], other.y.values[-1]
                if not self._path_is_clear(obj, x, y, ignore=other):
                    continue
                obj.depths.append((time, min(t.depths[-1][1] for t in self.present) - 0.1))
                end = self._move_to(obj, x, y, time, self._random_duration())
                obj.hidden.append([end, self.duration + 1.0])
                self.behind[id(obj)] = (obj, other)
                name, target = obj.name_at(time), other.name_at(time)
                return Event("hide", time, end, f"the {name} hides behind the {target}", name, target)
        return None

    def _reveal(self, time: float) -> Event | None:
        for obj, other in list(self.behind.values()):
            for _ in range(20):
                x, y = self._random_position(obj.radius.values[-1])
                gap = math.hypot(x - other.x.values[-1], y - other.y.values[-1])
                if gap < obj.radius.values[-1] + other.radius.values[-1] + MIN_DISTANCE or not self._path_is_clear(
                    obj, x, y, ignore=other
                ):
                    continue
                end = self._move_to(obj, x, y, time, self._random_duration())
                obj.hidden[-1][1] = time
                del self.behind[id(obj)]
                name, target = obj.name_at(time), other.name_at(time)
                return Event("reveal", time, end, f"the {name} comes out from behind the {target}", name, target)
        return None


def _distance_to_segment(px: float, py: float, x0: float, y0: float, x1: float, y1: float) -> float:
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    share = 0.0 if length == 0 else max(0.0, min(1.0, ((px - x0) * dx + (py - y0) * dy) / length))
    return math.hypot(px - x0 - share * dx, py - y0 - share * dy)


def generate_scene(rng: np.random.Generator, duration: float) -> Scene:
    """Generate a scene of ``duration`` seconds, completely determined by the state of ``rng``."""
    return SceneGenerator(rng, duration).generate_scene()
