"""Render a scene at a given time as an RGB image.

Each object is painted from its signed distance function inside its bounding box, with one pixel of antialiasing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.scenes.world import COLOURS, Scene, SceneObject

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass
class RenderStyle:
    """What all frames of a clip share: a backdrop larger than the frame, camera shake in pixels, noise tiles, flicker."""

    backdrop: F32  # [S + 2 M, S + 2 M, 3]
    margin: int
    shake: float
    noise: F32  # [N, S, S, 1]
    flicker: float
    seed: int


def make_render_style(rng: np.random.Generator, size: int) -> RenderStyle:
    """Return a random style for square frames of ``size`` pixels."""
    margin = max(2, size // 32)
    side = size + 2 * margin
    amount = float(rng.choice([0.0, 3.0, 6.0, 10.0]))
    noise = rng.normal(0, 1, (4, size, size, 1)).astype(np.float32) * amount
    shake = float(rng.choice([0.0, 0.0, 0.004, 0.01])) * size
    return RenderStyle(
        _backdrop(rng, side), margin, shake, noise, float(rng.choice([0.0, 0.0, 4.0])), int(rng.integers(2**31))
    )


def _backdrop(rng: np.random.Generator, side: int) -> F32:
    """Return a backdrop [side, side, 3] of muted colours, so that objects stand out."""
    base = rng.uniform(35, 125, 3) * 0.35 + rng.uniform(35, 125) * 0.65
    other = np.clip(base + rng.uniform(-28, 28, 3), 20, 150)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    pattern = str(rng.choice(["plain", "gradient", "stripes", "checks", "clouds"]))
    angle, cells = float(rng.uniform(0, math.pi)), float(rng.uniform(3, 9))
    along = x * math.cos(angle) + y * math.sin(angle)
    painters: dict[str, Callable[[], F32]] = {
        "plain": lambda: np.zeros_like(x),
        "gradient": lambda: along,
        "stripes": lambda: np.float32(0.5) + np.float32(0.5) * np.sign(np.sin(along * cells * 2 * math.pi)),
        "checks": lambda: ((np.floor(x * cells) + np.floor(y * cells)) % 2).astype(np.float32),
        "clouds": lambda: _clouds(rng, side),
    }
    backdrop: F32 = (base + (other - base) * painters[pattern]()[..., None]).astype(np.float32)
    return backdrop


def _clouds(rng: np.random.Generator, side: int) -> F32:
    coarse = rng.random((6, 6)).astype(np.float32)
    positions = np.linspace(0, 5, side)
    rows = np.stack([np.interp(positions, np.arange(6), row) for row in coarse])  # [6, side]
    return np.stack([np.interp(positions, np.arange(6), column) for column in rows.T], axis=1).astype(np.float32)


def render_frame(scene: Scene, style: RenderStyle, time: float, size: int) -> U8:
    """Render the frame at ``time`` as ``uint8 [size, size, 3]``."""
    rng = np.random.default_rng((style.seed, round(time * 1000)))
    dx, dy = (round(float(v)) for v in np.clip(rng.normal(0, 1, 2) * style.shake, -style.margin, style.margin))
    top, left = style.margin + dy, style.margin + dx
    canvas = style.backdrop[top : top + size, left : left + size].copy()  # [S, S, 3]
    for obj in sorted((t for t in scene.objects if t.is_present(time)), key=lambda t: t.depth_at(time)):
        _paint(canvas, obj, time, size, dx, dy)
    canvas += np.roll(style.noise[rng.integers(4)], tuple(rng.integers(0, size, 2)), (0, 1))
    canvas += rng.normal() * style.flicker
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def _paint(canvas: F32, obj: SceneObject, time: float, size: int, dx: int, dy: int) -> None:
    x, y, radius = obj.x.at(time) * size - dx, obj.y.at(time) * size - dy, obj.radius.at(time) * size
    reach = radius * 1.15 + 2
    x0, x1 = max(0, int(x - reach)), min(size, int(x + reach) + 1)
    y0, y1 = max(0, int(y - reach)), min(size, int(y + reach) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    v, u = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    u, v = (u + 0.5 - x) / radius, (v + 0.5 - y) / radius
    c, s = math.cos(obj.tilt), math.sin(obj.tilt)
    cover = np.clip(0.5 - _distance(obj.shape, c * u + s * v, c * v - s * u) * radius, 0, 1)[..., None]  # [h, w, 1]
    colour = np.array(_colour(obj, time), np.float32) + np.array(obj.tint, np.float32)
    patch = canvas[y0:y1, x0:x1]
    patch += cover * (colour - patch)


def _colour(obj: SceneObject, time: float) -> tuple[float, ...]:
    """Return the object's colour at ``time``. A change of colour is blended over its last quarter second."""
    now = COLOURS[obj.colour_at(time)]
    for end, name in obj.colours[1:]:
        if end - 0.25 <= time < end:
            share = (time - end + 0.25) / 0.25
            return tuple(a + share * (b - a) for a, b in zip(now, COLOURS[name], strict=True))
    return tuple(float(v) for v in now)


def _distance(shape: str, u: F32, v: F32) -> Any:
    """Return the signed distance to the edge of a shape of unit radius, accurate near the edge; y points down."""
    if shape == "circle":
        return np.hypot(u, v) - 0.95
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.82
    if shape == "triangle":
        return np.maximum(np.abs(u) * 0.866 - (v - 0.05) * 0.5, v - 0.05) - 0.56
    if shape == "cross":
        a, b = np.abs(u), np.abs(v)
        return np.maximum(np.maximum(a, b) - 0.98, np.minimum(a, b) - 0.32)
    return _star(u, v)


def _star(u: F32, v: F32) -> Any:
    fold = np.abs((np.arctan2(u, -v) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)  # 0 at a point, pi/5 between
    rho = np.hypot(u, v)
    px, py = rho * np.cos(fold), rho * np.sin(fold)
    outer, inner = (1.1, 0.0), (0.46 * math.cos(math.pi / 5), 0.46 * math.sin(math.pi / 5))
    nx, ny = inner[1] - outer[1], outer[0] - inner[0]
    norm = math.hypot(nx, ny)
    return ((px - outer[0]) * nx + (py - outer[1]) * ny) / norm
