"""Footage for the domain check: rendered scenes as nano knows them, and clips that look like anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.scenes.world import COLOURS
from mmduet.video import VideoWriter

Image = NDArray[np.uint8]
HEIGHT, WIDTH, FPS, FRAMES = 144, 192, 4, 40


def scene_frames(seed: int, seconds: float = 10.0, size: int = 128) -> Iterator[tuple[float, Image]]:
    """Yield times and frames of a rendered scene."""
    rng = np.random.default_rng(seed)
    scene = generate_scene(rng, seconds)
    style = make_render_style(rng, size)
    for step in range(round(seconds * FPS)):
        yield step / FPS, render_frame(scene, style, step / FPS, size)


RANDOM_PATTERNS = {"gradients", "life", "cellauto", "sierpinski"}


def out_of_domain() -> dict[str, Callable[[], list[Image]]]:
    """Return clips by name: test patterns, fractals, text, textures, cartoons, dark and empty cameras."""
    patterns = ("testsrc2", "smptehdbars", "mandelbrot", "gradients", "life", "cellauto", "sierpinski")
    painted = (_noise, _page, _terminal, _photo, _cartoon, _room, _infrared, _static_camera, _title, _black, _white)
    clips: dict[str, Callable[[], list[Image]]] = {name: _pattern(name) for name in patterns}
    return clips | {painter.__name__.strip("_"): _painted(painter) for painter in painted}


def write_clip(path: Path, frames: list[Image], fps: float = FPS, crf: int = 26) -> Path:
    """Write frames as H.264."""
    height, width, _ = frames[0].shape
    with VideoWriter(path, width, height, fps, crf=crf) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def _pattern(name: str) -> Callable[[], list[Image]]:
    def make() -> list[Image]:
        graph = av.filter.Graph()
        seed = ":seed=1" if name in RANDOM_PATTERNS else ""  # without it, they differ from one run to the next
        source = graph.add(name, f"size={WIDTH}x{HEIGHT}:rate={FPS}{seed}")
        rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
        source.link_to(rgb)
        rgb.link_to(sink)
        graph.configure()
        pull: Any = graph.pull
        return [pull().to_ndarray(format="rgb24") for _ in range(FRAMES)]

    return make


def _painted(painter: Callable[[np.random.Generator, int], NDArray[Any]]) -> Callable[[], list[Image]]:
    def make() -> list[Image]:
        return [
            np.clip(painter(np.random.default_rng([3, step]), step), 0, 255).astype(np.uint8) for step in range(FRAMES)
        ]

    return make


def _plain(*colour: float) -> NDArray[np.float64]:
    return np.tile(np.array(colour, np.float64), (HEIGHT, WIDTH, 1))


def _smooth(cells: int, channels: int = 3) -> NDArray[np.float64]:
    """Return a smooth random texture from 0 to 1, the same at every call."""
    coarse = np.random.default_rng(5).random((cells, cells, channels))
    at = np.arange(cells)
    rows, columns = np.linspace(0, cells - 1, HEIGHT), np.linspace(0, cells - 1, WIDTH)
    lines = np.apply_along_axis(lambda column: np.interp(rows, at, column), 0, coarse)
    return np.apply_along_axis(lambda line: np.interp(columns, at, line), 1, lines)


def _noise(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3))


def _text(paper: tuple[int, ...], ink: tuple[int, ...]) -> NDArray[Any]:
    page, rng = _plain(*paper), np.random.default_rng(6)
    for top in range(6, HEIGHT - 8, 9):
        for left in range(6, WIDTH - 30, 26):
            letters = rng.random((6, int(rng.integers(8, 22)))) < 0.5
            page[top : top + 6, left : left + letters.shape[1]][letters] = ink
    return page


def _page(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _text((255, 255, 255), (20, 20, 20))


def _terminal(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _text((40, 44, 52), (171, 178, 191))


def _photo(rng: np.random.Generator, step: int) -> NDArray[Any]:
    picture = 0.6 * _smooth(5) + 0.4 * _smooth(24)
    return np.roll(picture * 255, 2 * step, axis=1) + rng.normal(0, 4, (HEIGHT, WIDTH, 1))


def _cartoon(rng: np.random.Generator, step: int) -> NDArray[Any]:
    picture = _plain(135, 206, 235)  # sky
    picture[90:] = (124, 200, 90)
    picture[40:110, 20 + step : 70 + step] = (255, 192, 203)
    picture[60:90, 120:170] = (139, 69, 19)
    return picture


def _room(rng: np.random.Generator, step: int) -> NDArray[Any]:
    """Return muted colours, as nano's backgrounds are, but several of them."""
    picture = _plain(120, 112, 100)
    picture[105:] = (84, 70, 60)
    picture[22:68, 45:90] = (150, 150, 146)
    picture[68:128, 128:172] = (60, 62, 70)
    return picture + 20 * _smooth(10) + rng.normal(0, 5, (HEIGHT, WIDTH, 1))


def _infrared(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _plain(10, 10, 10) + 90 * _smooth(6, 1) + rng.normal(0, 10, (HEIGHT, WIDTH, 1))


def _static_camera(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _plain(100, 100, 100) + rng.normal(0, 6, (HEIGHT, WIDTH, 1))


def _title(rng: np.random.Generator, step: int) -> NDArray[Any]:
    """Return grey with a title in a colour that nano knows, in two of ten seconds."""
    picture = _plain(100, 100, 100)
    if 8 <= step < 12 or 20 <= step < 24:
        for left in range(40, 150, 14):
            picture[60:84, left : left + 8] = COLOURS["yellow"]
    return picture


def _black(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _plain(0, 0, 0)


def _white(rng: np.random.Generator, step: int) -> NDArray[Any]:
    return _plain(255, 255, 255)
