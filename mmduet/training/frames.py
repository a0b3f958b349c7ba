"""Store every frame of a set of videos, sampled and letterboxed, in one memory-mapped file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import TrainingError
from mmduet.files import write_json
from mmduet.video import letterbox, open_frames

U8 = NDArray[np.uint8]


class FrameStore:
    """Frames of many videos. ``pictures(name)`` is ``uint8 [N, S, S, 3]``, ``times(name)`` their seconds."""

    def __init__(self, directory: Path) -> None:
        index = json.loads((directory / "index.json").read_text())
        size: int = index["recipe"]["size"]
        self._places: dict[str, tuple[int, int]] = {k: (v[0], v[1]) for k, v in index["places"].items()}
        self._data = np.memmap(directory / "frames.u8", np.uint8, "r").reshape(-1, size, size, 3)
        self._times = np.load(directory / "times.npy")

    @property
    def names(self) -> list[str]:
        """The videos, in order."""
        return list(self._places)

    def pictures(self, name: str) -> U8:
        """All frames of one video."""
        start, count = self.locate(name)
        return self._data[start : start + count]

    def locate(self, name: str) -> tuple[int, int]:
        """Number of its first frame among all frames, and how many it has."""
        try:
            return self._places[name]
        except KeyError:
            raise TrainingError(
                f"the annotations name the video {name!r}, which is not among the stored frames"
            ) from None

    @property
    def all_pictures(self) -> U8:
        """Every frame of every video, in order."""
        return self._data

    def times(self, name: str) -> NDArray[np.float64]:
        """Their times in seconds."""
        start, count = self.locate(name)
        times: NDArray[np.float64] = self._times[start : start + count]
        return times


def build_store(
    videos: Path, names: Sequence[str], fps: float, size: int, directory: Path, progress: Callable[[int, int], None]
) -> FrameStore:
    """Decode ``names`` at ``fps`` into ``directory``, unless that has been done; a video that cannot be read is an error."""
    recipe = {"size": size, "fps": fps, "videos": list(names)}
    index = directory / "index.json"
    if index.exists() and (found := json.loads(index.read_text())["recipe"]) != recipe:
        differing = ", ".join(sorted(k for k in recipe if found.get(k) != recipe[k]))
        raise TrainingError(
            f"{directory} holds frames of another recipe (different: {differing}); use an empty directory"
        )
    if not index.exists():
        directory.mkdir(parents=True, exist_ok=True)
        places: dict[str, tuple[int, int]] = {}
        times: list[float] = []
        jobs = [(videos / name, fps, size) for name in names]
        with (
            ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
            (directory / "frames.u8").open("wb") as out,
        ):
            for name, (pictures, stamps) in zip(names, pool.map(_decode, jobs, chunksize=8), strict=True):
                places[name] = (len(times), len(stamps))
                times += stamps
                out.write(pictures.tobytes())
                progress(len(places), len(names))
        np.save(directory / "times.npy", np.array(times))
        write_json(index, {"recipe": recipe, "places": places})
    return FrameStore(directory)


def _decode(job: tuple[Path, float, int]) -> tuple[U8, list[float]]:
    path, fps, size = job
    pictures, times = [], []
    for frame in open_frames(path, fps):
        pictures.append(letterbox(frame.image, size))
        times.append(frame.time)
    return np.stack(pictures), times
