"""Generate a scene's objects and events from a random generator.

Events never overlap: each leaves at least ``MIN_GAP`` seconds before the next, so that every caption has one right moment.
Paths are kept clear of other things, so that what looks like a touch is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mmduet.scenes.world import (
    COLOURS,
    COVERING,
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
MARGIN = 0.02  # least air between things that do not touch, in frame sides
MAX_THINGS = 3
SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
WEIGHTS: dict[EventKind, float] = {
    "enter": 3.0, "leave": 1.6, "move": 2.2, "turn": 1.8, "grow": 1.2, "shrink": 1.2, "touch": 3.0, "hide": 6.0, "reveal": 4.0,
}  # fmt: skip


@dataclass
class SceneGenerator:
    """Plays a plot forward in time; ``rng`` is the only source of chance."""

    rng: np.random.Generator
    duration: float
    objects: list[SceneObject] = field(default_factory=list)
    stage: list[SceneObject] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    contacts: list[tuple[SceneObject, SceneObject, float, float]] = field(default_factory=list)
    touching: dict[int, tuple[SceneObject, SceneObject, float]] = field(default_factory=dict)  # by id of the mover
    behind: dict[int, tuple[SceneObject, SceneObject]] = field(default_factory=dict)  # by id of the hidden thing

    def generate_scene(self) -> Scene:
        """Fill the duration with events and return the finished scene."""
        for _ in range(int(self.rng.integers(0, 3))):
            self._place_at_start()
        time = float(self.rng.uniform(0.6, 2.0))
        while time < self.duration - 1.6:
            end = self._next_event(time)
            time = (end if end is not None else time) + float(self.rng.uniform(MIN_GAP, MAX_GAP))
        for mover, stander, start in self.touching.values():
            self.contacts.append((mover, stander, start, self.duration))
        return Scene(self.duration, self.objects, self.events, self.contacts)

    def _next_event(self, time: float) -> float | None:
        weights = dict(WEIGHTS)
        if len(self.stage) <= 1:
            weights["leave"] *= 0.3
        kinds = list(weights)
        p = np.array([weights[k] for k in kinds])
        for kind in self.rng.choice(kinds, size=len(kinds), replace=False, p=p / p.sum()):
            acts: dict[str, Callable[[float], Event | None]] = {
                "enter": self._enter, "leave": self._leave, "move": self._move, "turn": self._turn, "grow": self._resize,
                "shrink": self._resize, "touch": self._touch, "hide": self._hide, "reveal": self._reveal,
            }  # fmt: skip
            event = acts[str(kind)](time)
            if event is not None:
                self.events.append(event)
                return event.end
        return None

    # who may act

    def _actors(self) -> list[SceneObject]:
        """Things on stage that are neither hidden nor hiding another, in random order."""
        busy = {id(t) for pair in self.behind.values() for t in pair}
        free = [t for t in self.stage if id(t) not in busy]
        return [free[i] for i in self.rng.permutation(len(free))]

    def _fresh_identity(self) -> tuple[str, Shape]:
        taken = {(t.colours[-1][1], t.shape) for t in self.stage}
        while True:
            identity = (str(self.rng.choice(list(COLOURS))), SHAPES[int(self.rng.integers(len(SHAPES)))])
            if identity not in taken:
                return identity

    def _new_thing(self, x: float, y: float, time: float) -> SceneObject:
        colour, shape = self._fresh_identity()
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

    # geometry

    def _clear(self, mover: SceneObject, x: float, y: float, *, but: SceneObject | None = None) -> bool:
        """Whether the straight way from where ``mover`` stands to (x, y) keeps clear of all others but ``but``."""
        x0, y0 = mover.x.values[-1], mover.y.values[-1]
        partners = {id(s) for m, s, _ in self.touching.values() if m is mover}
        partners |= {id(m) for m, s, _ in self.touching.values() if s is mover}
        for other in self.stage:
            if other is mover or other is but:
                continue
            ox, oy, reach = (
                other.x.values[-1],
                other.y.values[-1],
                mover.radius.values[-1] + other.radius.values[-1] + MARGIN,
            )
            if id(other) in partners:  # in contact now: it must move away from it, and end clear of it
                leaving = (x - x0) * (x0 - ox) + (y - y0) * (y0 - oy) > 0
                if not leaving or math.hypot(x - ox, y - oy) < reach:
                    return False
            elif _distance_to_segment(ox, oy, x0, y0, x, y) < reach:
                return False
        return True

    def _spot(self, radius: float) -> tuple[float, float]:
        low, high = radius + 0.01, 1 - radius - 0.01
        return float(self.rng.uniform(low, high)), float(self.rng.uniform(low, high))

    def _go(self, thing: SceneObject, x: float, y: float, start: float, duration: float) -> float:
        thing.x.ramp(start, start + duration, x)
        thing.y.ramp(start, start + duration, y)
        self._part(thing, start)
        return start + duration

    def _part(self, thing: SceneObject, time: float) -> None:
        """End every contact that ``thing`` is in."""
        for key, (mover, stander, start) in list(self.touching.items()):
            if thing is mover or thing is stander:
                self.contacts.append((mover, stander, start, time))
                del self.touching[key]

    def _pace(self) -> float:
        return float(self.rng.uniform(0.6, 1.1))

    # the acts: each returns its event, or None where it cannot be played now

    def _place_at_start(self) -> None:
        for _ in range(20):
            thing = self._new_thing(0.5, 0.5, 0.0)
            x, y = self._spot(thing.radius.values[-1])
            thing.x.values[0], thing.y.values[0] = x, y
            if self._clear(thing, x, y):
                self.objects.append(thing)
                self.stage.append(thing)
                return

    def _enter(self, time: float) -> Event | None:
        if len(self.stage) >= MAX_THINGS:
            return None
        for _ in range(20):
            thing = self._new_thing(0.5, 0.5, time)
            r = thing.radius.values[-1]
            x, y = self._spot(r)
            side, (dx, dy) = list(SIDES.items())[int(self.rng.integers(4))]
            x0, y0 = (x if dx == 0 else 0.5 + dx * (0.5 + r)), (y if dy == 0 else 0.5 + dy * (0.5 + r))
            thing.x.values[0], thing.y.values[0] = x0, y0
            if math.hypot(x - x0, y - y0) < 0.9 and self._clear(thing, x, y):
                end = self._go(thing, x, y, time, self._pace())
                self.objects.append(thing)
                self.stage.append(thing)
                name = thing.name_at(time)
                return Event("enter", time, end, f"a {thing.size} {name} enters from the {side}", name)
        return None

    def _leave(self, time: float) -> Event | None:
        for thing in self._actors():
            for i in self.rng.permutation(4):
                side, (dx, dy) = list(SIDES.items())[i]
                r = thing.radius.values[-1]
                x0, y0 = thing.x.values[-1], thing.y.values[-1]
                x, y = (x0 if dx == 0 else 0.5 + dx * (0.52 + r)), (y0 if dy == 0 else 0.5 + dy * (0.52 + r))
                if math.hypot(x - x0, y - y0) < 0.9 and self._clear(thing, x, y):
                    end = self._go(thing, x, y, time, self._pace())
                    thing.left = end
                    self.stage.remove(thing)
                    name = thing.name_at(time)
                    where = f"on the {side}" if dx else f"at the {side}"
                    return Event("leave", time, end, f"the {name} leaves {where}", name)
        return None

    def _move(self, time: float) -> Event | None:
        for thing in self._actors():
            for i in self.rng.permutation(4):
                way, (dx, dy) = list(DIRECTIONS.items())[i]
                r, far = thing.radius.values[-1], float(self.rng.uniform(0.25, 0.5))
                drift = float(self.rng.uniform(-0.06, 0.06))
                x, y = thing.x.values[-1] + dx * far + dy * drift, thing.y.values[-1] + dy * far + dx * drift
                if not (r < x < 1 - r and r < y < 1 - r) or not self._clear(thing, x, y):
                    continue
                end = self._go(thing, x, y, time, self._pace())
                name = thing.name_at(time)
                return Event("move", time, end, f"the {name} moves {way}", name)
        return None

    def _turn(self, time: float) -> Event | None:
        for thing in self._actors():
            old = thing.name_at(time)
            taken = {(t.colours[-1][1], t.shape) for t in self.stage}
            for colour in self.rng.permutation(list(COLOURS)):
                if (str(colour), thing.shape) not in taken:
                    end = time + 0.25
                    thing.colours.append((end, str(colour)))
                    return Event("turn", time, end, f"the {old} turns {colour}", old)
        return None

    def _resize(self, time: float) -> Event | None:
        for thing in self._actors():
            if any(thing in (m, s) for m, s, _ in self.touching.values()):
                continue
            size: Size = "big" if thing.size == "small" else "small"
            x, y, r = thing.x.values[-1], thing.y.values[-1], RADII[size]
            others = [o for o in self.stage if o is not thing]
            clear = all(
                math.hypot(x - o.x.values[-1], y - o.y.values[-1]) > r + o.radius.values[-1] + MARGIN for o in others
            )
            if not clear or not (r - 0.03 < x < 1 - r + 0.03 and r - 0.03 < y < 1 - r + 0.03):
                continue
            end = time + 0.4
            thing.radius.ramp(time, end, r)
            thing.size = size
            name, kind = thing.name_at(time), "grow" if size == "big" else "shrink"
            return Event("grow" if size == "big" else "shrink", time, end, f"the {name} {kind}s", name)
        return None

    def _touch(self, time: float) -> Event | None:
        for thing in self._actors():
            for other in self._actors():
                if other is thing or any({id(m), id(s)} & {id(thing), id(other)} for m, s, _ in self.touching.values()):
                    continue
                ox, oy = other.x.values[-1], other.y.values[-1]
                x0, y0 = thing.x.values[-1], thing.y.values[-1]
                away = math.hypot(x0 - ox, y0 - oy)
                reach = 0.8 * (thing.radius.values[-1] + other.radius.values[-1])  # a small overlap that can be seen
                if away < reach + 0.12:
                    continue
                x, y = ox + (x0 - ox) * reach / away, oy + (y0 - oy) * reach / away
                if not self._clear(thing, x, y, but=other):
                    continue
                end = self._go(thing, x, y, time, self._pace())
                thing.depths.append((time, max(t.depths[-1][1] for t in self.stage) + 0.1))
                self.touching[id(thing)] = (thing, other, end)
                name, target = thing.name_at(time), other.name_at(time)
                return Event("touch", time, end, f"the {name} touches the {target}", name, target)
        return None

    def _hide(self, time: float) -> Event | None:
        for thing in self._actors():
            for other in self._actors():
                if other is thing or thing.size != "small" or other.size != "big" or other.shape not in COVERING:
                    continue
                if any(other in (m, s) and thing not in (m, s) for m, s, _ in self.touching.values()):
                    continue
                x, y = other.x.values[-1], other.y.values[-1]
                if not self._clear(thing, x, y, but=other):
                    continue
                self._part(thing, time)
                thing.depths.append((time, min(t.depths[-1][1] for t in self.stage) - 0.1))
                end = self._go(thing, x, y, time, self._pace())
                thing.hidden.append([end, self.duration + 1.0])
                self.behind[id(thing)] = (thing, other)
                name, target = thing.name_at(time), other.name_at(time)
                return Event("hide", time, end, f"the {name} hides behind the {target}", name, target)
        return None

    def _reveal(self, time: float) -> Event | None:
        for thing, other in list(self.behind.values()):
            for _ in range(20):
                x, y = self._spot(thing.radius.values[-1])
                gap = math.hypot(x - other.x.values[-1], y - other.y.values[-1])
                if gap < thing.radius.values[-1] + other.radius.values[-1] + MARGIN or not self._clear(
                    thing, x, y, but=other
                ):
                    continue
                end = self._go(thing, x, y, time, self._pace())
                thing.hidden[-1][1] = time
                del self.behind[id(thing)]
                name, target = thing.name_at(time), other.name_at(time)
                return Event("reveal", time, end, f"the {name} comes out from behind the {target}", name, target)
        return None


def _distance_to_segment(px: float, py: float, x0: float, y0: float, x1: float, y1: float) -> float:
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    share = 0.0 if length == 0 else max(0.0, min(1.0, ((px - x0) * dx + (py - y0) * dy) / length))
    return math.hypot(px - x0 - share * dx, py - y0 - share * dy)


def generate_scene(rng: np.random.Generator, duration: float) -> Scene:
    """A scene of ``duration`` seconds, wholly determined by ``rng``'s state."""
    return SceneGenerator(rng, duration).generate_scene()
