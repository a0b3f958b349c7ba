"""Sample clips: rendered scenes of nano's world, each with a query that nano can answer."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmduet.errors import MmduetError, NotFoundError, SourceError
from mmduet.pipelines.daemon import start_daemon
from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.server.log_events import CLIPS_NOT_RENDERED
from mmduet.text import shorten
from mmduet.video import VideoFile, VideoWriter
from mmduet.webpage.background import lower_priority

log = logging.getLogger(__name__)
SIZE, FPS, CRF, PRESET = 384, 12, 28, "slow"
POSTER_SHARE = 0.4
"""At which share of a clip its still is taken."""
POSTER_QUALITY = 85


@dataclass(frozen=True)
class ClipRecipe:
    """A clip that ``ensure_clips`` renders: equal seeds give equal scenes. ``preset`` is the page's preset for ``query``."""

    name: str
    title: str
    description: str
    preset: str
    query: str
    seed: int
    seconds: float


RECIPES = (
    ClipRecipe(
        name="arrivals",
        title="Comings and goings",
        description="Shapes enter and leave, and one touches another. nano narrates each event when it is over.",
        preset="narrate",
        query="Narrate the scene.",
        seed=5033,
        seconds=15.0,
    ),
    ClipRecipe(
        name="hiding",
        title="Hide and seek",
        description="A square hides behind a circle and comes out again. nano follows the square and nothing else.",
        preset="narrate",
        query="What does the blue square do?",
        seed=5710,
        seconds=12.0,
    ),
    ClipRecipe(
        name="touching",
        title="A touch",
        description="Circles move and change colour. nano is silent until one of them touches the other.",
        preset="answer",
        query="Tell me when something touches something.",
        seed=5342,
        seconds=14.0,
    ),
    ClipRecipe(
        name="colours",
        title="Changing colours",
        description="A square changes its colour twice, and moves in between. nano reports the colours only.",
        preset="answer",
        query="Tell me when something changes colour.",
        seed=5318,
        seconds=15.0,
    ),
    ClipRecipe(
        name="search",
        title="Finding a triangle",
        description="A triangle leaves before the end. The relevance score shows when it is in view.",
        preset="find",
        query="When is the orange triangle in view?",
        seed=5009,
        seconds=16.0,
    ),
)


@dataclass(frozen=True)
class SampleClip:
    """A clip that exists as a file, ``duration`` seconds long."""

    recipe: ClipRecipe
    path: Path
    duration: float
    width: int
    height: int

    @property
    def name(self) -> str:
        """The name in its URLs."""
        return self.recipe.name

    def to_dict(self) -> dict[str, Any]:
        """Return the clip as JSON values; ``preview`` and ``poster`` are relative to the page."""
        recipe = self.recipe
        return {
            "name": recipe.name,
            "title": recipe.title,
            "description": recipe.description,
            "preset": recipe.preset,
            "query": recipe.query,
            "duration_s": round(self.duration, 3),
            "width": self.width,
            "height": self.height,
            "source": f"clip:{recipe.name}",
            "preview": f"clips/{recipe.name}/video",
            "poster": f"clips/{recipe.name}/poster",
        }


RenderClip = Callable[[Path, ClipRecipe], None]


def render_clip(path: Path, recipe: ClipRecipe) -> None:
    """Render one clip, complete or not at all."""
    rng = np.random.default_rng(recipe.seed)
    scene = generate_scene(rng, recipe.seconds)
    style = make_render_style(rng, SIZE)
    with VideoWriter(path, SIZE, SIZE, FPS, CRF, PRESET) as writer:
        for step in range(round(recipe.seconds * FPS)):
            writer.write(render_frame(scene, style, step / FPS, SIZE))


class SampleClips:
    """The sample clips in ``folder``. They are rendered when they are first used, where they do not exist.

    If the folder cannot be written, ``fallback`` is used. ``render`` writes a clip.
    """

    def __init__(self, folder: Path, fallback: Path | None = None, render: RenderClip = render_clip) -> None:
        self._render = render
        self._folders = [folder] if fallback is None else [folder, fallback]
        self._clips: dict[str, SampleClip] | None = None
        self._posters: dict[str, bytes] = {}
        self._loading = asyncio.Lock()

    async def all(self) -> list[SampleClip]:
        """Return all clips."""
        return list((await self._load()).values())

    async def find(self, name: str) -> SampleClip:
        """Return a clip. Raises ``NotFoundError``."""
        clip = (await self._load()).get(name)
        if clip is None:
            raise NotFoundError(f"clip {shorten(name)!r} does not exist; GET clips lists all clips")
        return clip

    def find_path(self, name: str) -> Path:
        """Return the file of a clip; any thread may call it. Raises ``SourceError``."""
        clip = (self._clips if self._clips is not None else self._read()).get(name)
        if clip is None:
            raise SourceError(f"clip {shorten(name)!r} does not exist; check the name")
        return clip.path

    async def poster(self, name: str) -> bytes:
        """Return a still of a clip as JPEG. Raises ``NotFoundError``."""
        clip = await self.find(name)
        if name not in self._posters:
            self._posters[name] = await asyncio.to_thread(_make_poster, clip)
        return self._posters[name]

    async def _load(self) -> dict[str, SampleClip]:
        async with self._loading:
            if self._clips is None:
                # a daemon thread, because the server need not wait for it when it stops
                self._clips = await asyncio.wrap_future(start_daemon(self._read_in_background, "mmduet-clips"))
        return self._clips

    def _read_in_background(self) -> dict[str, SampleClip]:
        lower_priority()
        return self._read()

    def _read(self) -> dict[str, SampleClip]:
        """Return the clips of the first folder that has them or can be written."""
        for folder in self._folders:
            try:
                ensure_clips(folder, self._render)
                return {recipe.name: _read_clip(folder, recipe) for recipe in RECIPES}
            except (MmduetError, OSError) as error:
                CLIPS_NOT_RENDERED.emit(log, folder=str(folder), detail=str(error))
        return {}


def ensure_clips(folder: Path, render: RenderClip = render_clip) -> list[Path]:
    """Call ``render`` for the clips that do not exist in ``folder``, and return the files of all clips.

    Raises ``OSError`` or ``VideoWriteError`` if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [clip_path(folder, recipe) for recipe in RECIPES]
    for recipe, path in zip(RECIPES, paths, strict=True):
        if not path.exists():
            render(path, recipe)
    return paths


def clip_path(folder: Path, recipe: ClipRecipe) -> Path:
    """Return the file of a clip."""
    return folder / f"{recipe.name}.mp4"


def _read_clip(folder: Path, recipe: ClipRecipe) -> SampleClip:
    path = clip_path(folder, recipe)
    with VideoFile(path) as file:
        info = file.info
    return SampleClip(recipe, path, info.duration or recipe.seconds, info.width, info.height)


def _make_poster(clip: SampleClip) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    with VideoFile(clip.path) as file:
        frame = next(frame for frame in file.decode() if frame.time >= POSTER_SHARE * clip.duration)
        Image.fromarray(frame.to_rgb()).save(buffer, "JPEG", quality=POSTER_QUALITY)
    return buffer.getvalue()
