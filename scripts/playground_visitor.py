"""A scripted visitor of the playground: real pointer and key events at a hand's pace, through Playwright."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from playwright.sync_api import Page

HAND_HZ = 60
PATH_GAP = 0.05  # visitors do not drag a shape nearer than this past another one
WEIGHTS = {
    "drag_in": 3.0, "tap": 1.0, "move": 3.0, "key": 1.0, "drag_out": 1.5, "slide_out": 0.5, "turn": 1.5, "resize": 2.0,
    "touch": 3.0, "hide": 4.0, "reveal": 4.0,
}  # fmt: skip
TRIES = 8  # choices of shapes and positions before another kind of action is chosen
Point = tuple[float, float]
Json = dict[str, Any]


class Visitor:
    """A visitor of the playground, with a mouse and a keyboard; all choices are made by ``rng``."""

    def __init__(self, page: Page, rng: np.random.Generator) -> None:
        """``page`` shows a playground."""
        self.page, self.rng = page, rng
        box = page.locator("mmduet-playground .stage").bounding_box()
        assert box is not None
        self.left, self.top, self.side = box["x"], box["y"], box["width"]
        self.at: Point = (0.5, 1.3)

    def act(self, count: int) -> list[str]:
        """Make ``count`` actions, and return their names."""
        done: list[str] = []
        for _ in range(200):
            if len(done) == count:
                break
            kinds = list(WEIGHTS)
            p = np.array([WEIGHTS[kind] for kind in kinds])
            kind = str(self.rng.choice(kinds, p=p / p.sum()))
            shapes = self.shapes()
            if any(getattr(self, f"_{kind}")(shapes) for _ in range(TRIES)):
                done.append(kind)
                self.page.wait_for_timeout(float(self.rng.uniform(300, 2300)))
        return done

    def shapes(self) -> list[Json]:
        """Return the shapes on the canvas."""
        return list(self.page.evaluate("document.querySelector('mmduet-playground').shapes"))

    # The hand

    def _move_to(self, point: Point, seconds: float = 0.0) -> None:
        """Move the pointer to a point of the frame, with the speed profile of a hand and a slight curve."""
        (x0, y0), (x1, y1) = self.at, point
        bend = float(self.rng.uniform(-0.08, 0.08))
        steps = max(round(seconds * HAND_HZ), 1)
        start = time.perf_counter()
        for step in range(1, steps + 1):
            u = step / steps
            share = u**3 * (10 - 15 * u + 6 * u * u)
            side = bend * math.sin(math.pi * share)
            x, y = x0 + share * (x1 - x0) - side * (y1 - y0), y0 + share * (y1 - y0) + side * (x1 - x0)
            if seconds and (late := time.perf_counter() - start - u * seconds) > 1 / HAND_HZ and step < steps:
                continue  # a busy machine: skip positions rather than slow the hand down
            self.page.mouse.move(self.left + x * self.side, self.top + y * self.side)
            if seconds and late < 0:
                time.sleep(-late)
        self.at = point

    def _drag(self, start: Point, end: Point) -> None:
        """Press at ``start``, move to ``end`` at a hand's pace and let go."""
        self._move_to(start)
        self.page.mouse.down()
        self.page.wait_for_timeout(float(self.rng.uniform(40, 150)))
        self._move_to(end, float(self.rng.uniform(0.35, 1.0)) * (0.6 + math.dist(start, end)))
        self.page.wait_for_timeout(float(self.rng.uniform(30, 300)))
        self.page.mouse.up()

    def _drag_shape(self, shape: Json, end: Point) -> bool:
        """Drag a shape so that its centre comes to ``end``. A shape that hides another one is grabbed beside its centre."""
        reach = 0.3 * shape["radius"] if shape["behind"] is None else 0.03
        dx, dy = (float(v) for v in self.rng.uniform(-reach, reach, 2))
        if any(other["behind"] == shape["name"] for other in self.shapes()):
            dx = math.copysign(0.1, dx)
        self._drag((shape["x"] + dx, shape["y"] + dy), (end[0] + dx, end[1] + dy))
        return True

    # Actions: each returns whether it was possible

    def _drag_in(self, shapes: list[Json]) -> bool:
        end = (float(self.rng.uniform(0.15, 0.85)), float(self.rng.uniform(0.15, 0.85)))
        if len(shapes) > 2 or any(math.dist(end, _centre(s)) < s["radius"] + 0.24 for s in shapes):
            return False
        self._choose_look()
        chip = self.page.locator("mmduet-playground .chip").nth(int(self.rng.integers(5)))
        box = chip.bounding_box()
        assert box is not None
        start = (box["x"] + box["width"] / 2 - self.left) / self.side, (box["y"] + 20 - self.top) / self.side
        self._drag(start, end)
        return True

    def _tap(self, shapes: list[Json]) -> bool:
        if len(shapes) > 2:
            return False
        self._choose_look()
        self.page.locator("mmduet-playground .chip").nth(int(self.rng.integers(5))).click()
        return True

    def _choose_look(self) -> None:
        for name in ("colour", "size"):
            choices = self.page.locator(f"mmduet-playground input[name={name}] + span")
            choices.nth(int(self.rng.integers(choices.count()))).click()

    def _move(self, shapes: list[Json]) -> bool:
        if (shape := self._pick(shapes)) is None:
            return False
        angle = int(self.rng.integers(4)) * math.pi / 2 + float(self.rng.uniform(-0.45, 0.45))
        length = float(self.rng.uniform(0.2, 0.5))
        end = (shape["x"] + length * math.cos(angle), shape["y"] + length * math.sin(angle))
        if not all(shape["radius"] < v < 1 - shape["radius"] for v in end):
            return False
        if not _is_path_clear(shapes, shape, end):
            return False
        return self._drag_shape(shape, end)

    def _key(self, shapes: list[Json]) -> bool:
        return self._select(shapes) and self._press(f"Arrow{self.rng.choice(['Left', 'Right', 'Up', 'Down'])}")

    def _slide_out(self, shapes: list[Json]) -> bool:
        return len(shapes) > 1 and self._select(shapes) and self._press("Delete")

    def _turn(self, shapes: list[Json]) -> bool:
        return self._select(shapes) and self._press("c")

    def _resize(self, shapes: list[Json]) -> bool:
        return self._select(shapes) and self._press("+" if self._selected()["size"] == "small" else "-")

    def _select(self, shapes: list[Json]) -> bool:
        """Click on a shape."""
        if (shape := self._pick(shapes)) is None:
            return False
        self._move_to((shape["x"] + 0.09 * (shape["size"] == "big"), shape["y"]))
        self.page.mouse.down()
        self.page.mouse.up()
        return any(s["isSelected"] for s in self.shapes())

    def _selected(self) -> Json:
        return next(shape for shape in self.shapes() if shape["isSelected"])

    def _press(self, key: str) -> bool:
        """Press a key, and return whether something starts."""
        self.page.locator("mmduet-playground .stage").press(key)
        return not bool(self.page.evaluate("document.querySelector('mmduet-playground').isAtRest"))

    def _drag_out(self, shapes: list[Json]) -> bool:
        if len(shapes) < 2 or (shape := self._pick(shapes)) is None:
            return False
        dx, dy = ((-1, 0), (1, 0), (0, -1), (0, 1))[int(self.rng.integers(4))]
        beyond, drift = (float(v) for v in self.rng.uniform((0.04, -0.1), (0.12, 0.1)))
        end = (
            0.5 + dx * (0.5 + beyond) if dx else shape["x"] + drift,
            0.5 + dy * (0.5 + beyond) if dy else shape["y"] + drift,
        )
        if not _is_path_clear(shapes, shape, end) or self.left + end[0] * self.side < 0:
            return False
        return self._drag_shape(shape, end)

    def _touch(self, shapes: list[Json]) -> bool:
        shape, other = self._pick(shapes), self._pick(shapes)
        if shape is None or other is None or shape is other or other["name"] in shape["touches"]:
            return False
        reach, away = shape["radius"] + other["radius"], math.dist(_centre(shape), _centre(other))
        if away < 0.8 * reach + 0.14 or not _is_path_clear(shapes, shape, _centre(other), ignored=other):
            return False
        share = float(self.rng.uniform(0.78, 0.9)) * reach / away
        return self._drag_shape(shape, _between(other, shape, share))

    def _hide(self, shapes: list[Json]) -> bool:
        shape, other = self._pick(shapes), self._pick(shapes)
        if shape is None or other is None or shape["size"] != "small" or other["size"] != "big":
            return False
        if other["form"] not in ("circle", "square") or any(s["behind"] == other["name"] for s in shapes):
            return False
        if not _is_path_clear(shapes, shape, _centre(other), ignored=other):
            return False
        dx, dy = (float(v) for v in self.rng.uniform(-0.05, 0.05, 2))
        return self._drag_shape(shape, (other["x"] + dx, other["y"] + dy))

    def _reveal(self, shapes: list[Json]) -> bool:
        shape = next((s for s in shapes if s["behind"] is not None), None)
        if shape is None:
            return False
        end = (float(self.rng.uniform(0.13, 0.87)), float(self.rng.uniform(0.13, 0.87)))
        cover = next(s for s in shapes if s["name"] == shape["behind"])
        if math.dist(end, _centre(cover)) < shape["radius"] + cover["radius"] + 0.04:
            return False
        return _is_path_clear(shapes, shape, end, ignored=cover) and self._drag_shape(shape, end)

    def _pick(self, shapes: list[Json]) -> Json | None:
        """Return a random visible shape."""
        visible = [shape for shape in shapes if shape["behind"] is None]
        return visible[int(self.rng.integers(len(visible)))] if visible else None


def _centre(shape: Json) -> Point:
    return shape["x"], shape["y"]


def _between(a: Json, b: Json, share: float) -> Point:
    return a["x"] + share * (b["x"] - a["x"]), a["y"] + share * (b["y"] - a["y"])


def _is_path_clear(shapes: list[Json], shape: Json, end: Point, ignored: Json | None = None) -> bool:
    """Return whether the straight way of a shape keeps ``PATH_GAP`` from all others."""
    start = np.array(_centre(shape))
    way = np.array(end) - start
    for other in shapes:
        if other is shape or other is ignored or other["behind"] is not None:
            continue
        if other["name"] in shape["touches"]:
            if way @ (start - np.array(_centre(other))) <= 0:
                return False
            continue
        share = float(np.clip((np.array(_centre(other)) - start) @ way / max(way @ way, 1e-9), 0, 1))
        if math.dist(start + share * way, _centre(other)) < shape["radius"] + other["radius"] + PATH_GAP:
            return False
    return True
