"""Write a split of scenes to disk, H.264 clips and their annotations: deterministic per seed, parallel, resumable.

Files: ``scenes.json`` (the recipe), ``videos/NNNNN.mp4``, ``clips/NNNNN.json`` (all annotations of one clip, written after its
video, so that its presence means the clip is complete), and one file per benchmark format, written last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmduet.annotations.scene_files import clip_path, read_clips, write_benchmark_files
from mmduet.errors import OptionError
from mmduet.files import as_option_error, read_json, write_json
from mmduet.scenes.annotations import (
    ANNOTATION_VERSION,
    captions,
    grounding_queries,
    highlights,
    negative_query,
    questions,
)
from mmduet.scenes.prompts import NARRATION_PROMPTS
from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.scenes.world import Event, Scene
from mmduet.video.writer import VideoWriter

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SplitSpec:
    """The recipe of a split. Equal recipes give identical videos and annotations."""

    split: Split = "test"
    count: int = 60
    seed: int = 7
    min_seconds: float = 10.0
    max_seconds: float = 20.0
    size: int = 256
    fps: float = 8.0

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for values out of range."""
        if self.split not in SPLITS:
            raise OptionError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.count < 1:
            raise OptionError(f"count must be at least 1, got {self.count}")
        if not 5.0 <= self.min_seconds <= self.max_seconds <= 3600.0:
            raise OptionError(
                f"clip lengths must satisfy 5 <= min <= max <= 3600 seconds, got {self.min_seconds} to {self.max_seconds}"
            )
        if self.size < 64 or self.size % 2:
            raise OptionError(f"size must be an even number of pixels, at least 64, got {self.size}")
        if not 1.0 <= self.fps <= 60.0:
            raise OptionError(f"fps must be between 1 and 60, got {self.fps}")


def make_split(directory: str | Path, spec: SplitSpec, workers: int = 0, progress: Progress | None = None) -> Path:
    """Create the split in ``directory``, skipping clips that exist, and return the directory.

    Raises ``OptionError`` if the directory holds a split of another recipe (only ``count`` may grow).
    """
    root = Path(directory)
    _claim(root, spec)
    missing = [i for i in range(spec.count) if not clip_path(root, i).exists()]
    done = spec.count - len(missing)
    report = progress or (lambda done, total: None)
    report(done, spec.count)
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(missing) < 2:
        for index in missing:
            make_clip(root, spec, index)
            report(done := done + 1, spec.count)
    else:
        context = get_context("spawn")  # forking a process with threads may hang
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for _ in pool.map(_run_job, [(root, spec, i) for i in missing], chunksize=4):
                report(done := done + 1, spec.count)
    write_benchmark_files(root, read_clips(root), NARRATION_PROMPTS[0])
    return root


def _run_job(job: tuple[Path, SplitSpec, int]) -> None:
    make_clip(*job)


def make_clip(root: Path, spec: SplitSpec, index: int) -> None:
    """Render and annotate one clip: write the video first, then its annotations."""
    rng = np.random.default_rng([spec.seed, SPLITS.index(spec.split), index])
    duration = round(float(rng.uniform(spec.min_seconds, spec.max_seconds)), 1)
    scene = generate_scene(rng, duration)
    style = make_render_style(rng, spec.size)
    name = f"{index:05d}"
    crf = int(rng.integers(18, 33))
    with as_option_error(root):
        (root / "videos").mkdir(exist_ok=True)
    with VideoWriter(root / "videos" / f"{name}.mp4", spec.size, spec.size, spec.fps, crf=crf) as writer:
        for step in range(round(duration * spec.fps)):
            writer.write(render_frame(scene, style, step / spec.fps, spec.size))
    grounding = grounding_queries(scene, rng)
    clip = {
        "video": f"{name}.mp4",
        "duration": duration,
        "events": [event_to_dict(event) for event in scene.events],
        "captions": captions(scene),
        "questions": questions(scene, rng),
        "groundings": grounding,
        "absent": negative_query(scene, rng),
        "highlights": [h for g in grounding if (h := highlights(g, duration, rng)) is not None],
        "boxes": _boxes(scene, spec.fps) if spec.split == "train" else [],
    }
    write_json(clip_path(root, index), clip)


def event_to_dict(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, as in a clip's annotation file."""
    return {
        "kind": event.kind,
        "start": event.start,
        "end": event.end,
        "text": event.text,
        "subject": event.subject,
        "other": event.other,
    }


def spec_to_dict(spec: SplitSpec) -> dict[str, Any]:
    """Return a split's recipe as JSON values, as in ``scenes.json``."""
    return {
        "split": spec.split,
        "count": spec.count,
        "seed": spec.seed,
        "min_seconds": spec.min_seconds,
        "max_seconds": spec.max_seconds,
        "size": spec.size,
        "fps": spec.fps,
        "truth": ANNOTATION_VERSION,
    }


def _boxes(scene: Scene, fps: float) -> list[list[list[Any]]]:
    """Return per frame, far to near, [colour, shape, x, y, radius] of every object in the scene: labels for training."""
    frames = []
    for step in range(round(scene.duration * fps)):
        time = step / fps
        present = sorted((o for o in scene.objects if o.is_present(time)), key=lambda o: o.depth_at(time))
        frames.append(
            [[o.colour_at(time), o.shape, *(round(v.at(time), 3) for v in (o.x, o.y, o.radius))] for o in present]
        )
    return frames


def _claim(root: Path, spec: SplitSpec) -> None:
    """Create the directory, or check that it holds a split of the same recipe."""
    with as_option_error(root):
        (root / "clips").mkdir(parents=True, exist_ok=True)
    recipe = root / "scenes.json"
    expected = spec_to_dict(spec)
    if recipe.exists():
        found = read_json(recipe, dict)
        differing = sorted(k for k in expected if k != "count" and found.get(k) != expected[k])
        if differing or found.get("count", 0) > spec.count:
            names = ", ".join(differing or ["count"])
            raise OptionError(f"{root} contains scenes of another recipe (different: {names}); use an empty directory")
    write_json(recipe, expected)
