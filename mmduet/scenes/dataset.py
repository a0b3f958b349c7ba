"""A split of scenes on disk: H.264 clips and their annotations; deterministic per seed, parallel, resumable.

Layout: ``scenes.json`` (the recipe), ``videos/NNNNN.mp4``, ``clips/NNNNN.json`` (one clip's whole truth; written after its
video, so that its presence means the clip is done), and one file per benchmark format, written last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmduet.annotations import scene_files
from mmduet.errors import AnnotationError, OptionError
from mmduet.files import write_json
from mmduet.scenes import truth
from mmduet.scenes.director import direct
from mmduet.scenes.render import make_look, render
from mmduet.video.writer import VideoWriter

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SplitSpec:
    """The recipe of a split; equal recipes give equal pictures and truth."""

    split: Split = "test"
    count: int = 60
    seed: int = 7
    min_seconds: float = 10.0
    max_seconds: float = 20.0
    size: int = 256
    fps: float = 8.0

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if self.split not in SPLITS:
            raise OptionError(f"split is {self.split!r}; it must be one of {', '.join(SPLITS)}")
        if self.count < 1:
            raise OptionError(f"count is {self.count}; ask for at least one clip")
        if not 5.0 <= self.min_seconds <= self.max_seconds <= 3600.0:
            raise OptionError(
                f"clips of {self.min_seconds} to {self.max_seconds} s cannot be made; use 5 <= min <= max <= 3600"
            )
        if self.size < 64 or self.size % 2:
            raise OptionError(f"size is {self.size}; use an even number of pixels, 64 or more")
        if not 1.0 <= self.fps <= 60.0:
            raise OptionError(f"fps is {self.fps}; use 1 to 60")


def make_split(directory: str | Path, spec: SplitSpec, workers: int = 0, progress: Progress | None = None) -> Path:
    """Make the split in ``directory``, doing only what is not done yet, and return the directory.

    Raises ``OptionError`` where the directory holds a split of another recipe (only ``count`` may grow).
    """
    root = Path(directory)
    _claim(root, spec)
    todo = [i for i in range(spec.count) if not _clip_path(root, i).exists()]
    done = spec.count - len(todo)
    report = progress or (lambda done, total: None)
    report(done, spec.count)
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(todo) < 2:
        for index in todo:
            make_clip(root, spec, index)
            report(done := done + 1, spec.count)
    else:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn")
        ) as pool:  # forking a process with threads may hang
            for _ in pool.map(_make_clip_star, [(root, spec, i) for i in todo], chunksize=4):
                report(done := done + 1, spec.count)
    scene_files.write_all(root, load_clips(root))
    return root


def _make_clip_star(job: tuple[Path, SplitSpec, int]) -> None:
    make_clip(*job)


def make_clip(root: Path, spec: SplitSpec, index: int) -> None:
    """Render and annotate one clip: the video first, then its truth."""
    rng = np.random.default_rng([spec.seed, SPLITS.index(spec.split), index])
    duration = round(float(rng.uniform(spec.min_seconds, spec.max_seconds)), 1)
    scene = direct(rng, duration)
    look = make_look(rng, spec.size)
    name = f"{index:05d}"
    crf = int(rng.integers(18, 33))
    (root / "videos").mkdir(exist_ok=True)
    with VideoWriter(root / "videos" / f"{name}.mp4", spec.size, spec.size, spec.fps, crf=crf) as writer:
        for step in range(round(duration * spec.fps)):
            writer.write(render(scene, look, step / spec.fps, spec.size))
    grounding = truth.groundings(scene, rng)
    clip = {
        "video": f"{name}.mp4",
        "duration": duration,
        "events": [asdict(event) for event in scene.events],
        "captions": truth.captions(scene),
        "questions": truth.questions(scene, rng),
        "groundings": grounding,
        "absent": truth.absent(scene, rng),
        "highlights": [h for g in grounding if (h := truth.highlights(g, duration, rng)) is not None],
        "boxes": _boxes(scene, spec.fps) if spec.split == "train" else [],
    }
    write_json(_clip_path(root, index), clip)


def _boxes(scene: Any, fps: float) -> list[list[list[Any]]]:
    """Per frame, far to near: [colour, shape, x, y, radius] of everything on stage; the tower's first lessons."""
    frames = []
    for step in range(round(scene.duration * fps)):
        time = step / fps
        stage = sorted((t for t in scene.things if t.on_stage(time)), key=lambda t: t.depth_at(time))
        frames.append(
            [[t.colour_at(time), t.shape, *(round(v.at(time), 3) for v in (t.x, t.y, t.radius))] for t in stage]
        )
    return frames


def load_clips(directory: str | Path) -> list[dict[str, Any]]:
    """Every clip's truth, in order. Raises ``AnnotationError`` where the directory is no split."""
    root = Path(directory)
    paths = sorted((root / "clips").glob("*.json"))
    if not paths:
        raise AnnotationError(f"{root} holds no scenes (no clips/*.json); make some with: mmduet scenes make {root}")
    return [json.loads(path.read_text()) for path in paths]


def _clip_path(root: Path, index: int) -> Path:
    return root / "clips" / f"{index:05d}.json"


def _claim(root: Path, spec: SplitSpec) -> None:
    """Create the directory, or check that it was made by the same recipe."""
    (root / "clips").mkdir(parents=True, exist_ok=True)
    recipe = root / "scenes.json"
    wanted = asdict(spec) | {"truth": truth.VERSION}
    if recipe.exists():
        found = json.loads(recipe.read_text())
        differing = sorted(k for k in wanted if k != "count" and found.get(k) != wanted[k])
        if differing or found["count"] > spec.count:
            names = ", ".join(differing or ["count"])
            raise OptionError(f"{root} holds scenes of another recipe (different: {names}); use an empty directory")
    write_json(recipe, wanted)
