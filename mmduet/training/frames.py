"""Decode the frames of a set of videos once, sampled and letterboxed, into one memory-mapped file."""

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
from mmduet.files import as_option_error, write_json
from mmduet.video import open_frames

U8 = NDArray[np.uint8]


class FrameStore:
    """The frames of many videos by name, as ``uint8 [N, S, S, 3]``, and their times in seconds."""

    def __init__(self, directory: Path) -> None:
        index = json.loads((directory / "index.json").read_bytes())
        size: int = index["recipe"]["size"]
        self._ranges: dict[str, tuple[int, int]] = {k: (v[0], v[1]) for k, v in index["places"].items()}
        self._images = np.memmap(directory / "frames.u8", np.uint8, "r").reshape(-1, size, size, 3)
        self._times = np.load(directory / "times.npy")

    def images(self, name: str) -> U8:
        """Return the frames of one video."""
        start, count = self.locate(name)
        return self._images[start : start + count]

    def locate(self, name: str) -> tuple[int, int]:
        """Return the index of a video's first frame among all frames, and its number of frames."""
        try:
            return self._ranges[name]
        except KeyError:
            raise TrainingError(
                f"the video {name!r} is not in the frame store; build the store from all annotated videos"
            ) from None

    @property
    def all_images(self) -> U8:
        """The frames of all videos, in order."""
        return self._images

    def times(self, name: str) -> NDArray[np.float64]:
        """Return the times of one video's frames in seconds."""
        start, count = self.locate(name)
        times: NDArray[np.float64] = self._times[start : start + count]
        return times


def build_store(
    videos: Path, names: Sequence[str], fps: float, size: int, directory: Path, progress: Callable[[int, int], None]
) -> FrameStore:
    """Decode ``names`` at ``fps`` into ``directory``, unless this has been done. Raises ``VideoError`` for a damaged video."""
    recipe = {"size": size, "fps": fps, "videos": list(names)}
    index = directory / "index.json"
    if index.exists() and (found := json.loads(index.read_bytes())["recipe"]) != recipe:
        differing = ", ".join(sorted(k for k in recipe if found.get(k) != recipe[k]))
        raise TrainingError(
            f"{directory} contains frames of another recipe (different: {differing}); use an empty directory"
        )
    if not index.exists():
        with as_option_error(directory):
            directory.mkdir(parents=True, exist_ok=True)
        ranges: dict[str, tuple[int, int]] = {}
        times: list[float] = []
        jobs = [(videos / name, fps, size) for name in names]
        with (
            as_option_error(directory),
            ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
            (directory / "frames.u8").open("wb") as out,
        ):
            for name, (images, frame_times) in zip(names, pool.map(_decode, jobs, chunksize=8), strict=True):
                ranges[name] = (len(times), len(frame_times))
                times += frame_times
                out.write(images.tobytes())
                progress(len(ranges), len(names))
        with as_option_error(directory):
            np.save(directory / "times.npy", np.array(times))
        write_json(index, {"recipe": recipe, "places": ranges})
    return FrameStore(directory)


def _decode(job: tuple[Path, float, int]) -> tuple[U8, list[float]]:
    path, fps, size = job
    images, times = [], []
    for frame in open_frames(path, fps, size=size):
        images.append(frame.image)
        times.append(frame.time)
    return np.stack(images), times
