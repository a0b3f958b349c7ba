"""An index of videos: the times of all their frames, read once in parallel and cached. It imports no torch."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import MmduetError, TrainingError
from mmduet.files import as_option_error, write_json
from mmduet.progress import ProgressCallback
from mmduet.video import VideoFile
from mmduet.video.sampling import TICK_TOLERANCE, check_rate

Times = NDArray[np.float64]
CACHE_VERSION = 1
CHUNK_VIDEOS = 8  # that a worker reads before it returns
MAX_DENOMINATOR = 1_000_000  # of a time base
EXACT_INTEGERS = 2**53  # below which floats hold every integer


@dataclass(frozen=True)
class VideoEntry:
    """What the index has about one video.

    Attributes:
        duration: The end of the last frame in seconds.
        rate: Ticks per second of ``times``; 0: the values are seconds.
        times: The compressed times of all frames, see ``pack_times``.
        problems: Why the video, or a part of it, cannot be read.
    """

    duration: float
    rate: int
    times: str
    problems: tuple[str, ...] = ()


class VideoIndex:
    """Durations, frame times and problems of videos by name."""

    def __init__(self, entries: Mapping[str, VideoEntry]) -> None:
        self._entries = dict(entries)

    @classmethod
    def scan(
        cls,
        videos: Mapping[str, Path],
        cache: Path | None = None,
        workers: int = 1,
        progress: ProgressCallback = lambda done, total: None,
    ) -> VideoIndex:
        """Read the frame times of ``videos``, paths by name, in ``workers`` processes.

        A video whose size and modification time are in the file ``cache`` is not read again; results are added to the file.
        Files that cannot be read are in the index with their problem. Frames are not decoded where the codec allows it, so
        damage inside a frame is found only when the frame is used. Raises ``OptionError`` if the cache cannot be written.
        """
        known = _Cache(cache)
        found = {name: known.find(path) for name, path in videos.items()}
        missing = sorted({videos[name] for name, entry in found.items() if entry is None})
        progress(len(found) - len(missing), len(found))
        read: dict[Path, VideoEntry] = {}
        try:
            for path, entry in zip(missing, _read_all(missing, workers), strict=True):
                read[path] = entry
                known.add(path, entry)
                progress(len(found) - len(missing) + len(read), len(found))
        finally:
            if read:
                known.save()
        return cls({name: entry or read[videos[name]] for name, entry in found.items()})

    def __contains__(self, name: str) -> bool:
        """Return whether the index has a video of this name, readable or not."""
        return name in self._entries

    def duration(self, name: str) -> float:
        """Return the end of a video's last frame in seconds; 0 if it cannot be read."""
        return self._entry(name).duration

    def problems(self, name: str) -> tuple[str, ...]:
        """Return why a video, or a part of it, cannot be read; empty if nothing is wrong."""
        return self._entry(name).problems

    def frames(self, name: str, fps: float, max_frames: int | None = None) -> Times:
        """Return the times [F] of the frames that ``open_frames`` returns at ``fps``: none if the video cannot be read."""
        check_rate("fps", fps)
        entry = self._entry(name)
        return sample_times(unpack_times(entry.times, entry.rate), fps)[:max_frames]

    def _entry(self, name: str) -> VideoEntry:
        try:
            return self._entries[name]
        except KeyError:
            raise TrainingError(
                f"the video {name!r} is not in the index; scan all annotated videos before training"
            ) from None


def sample_times(times: Times, fps: float) -> Times:
    """Return what ``sample_by_pts`` selects: for each tick i/fps the first frame at or after it, each frame once."""
    if not len(times):
        return times
    ticks = np.arange(math.ceil(times[-1] * fps) + 2) / fps
    selected = np.unique(np.searchsorted(times + TICK_TOLERANCE, ticks, side="left"))
    return times[selected[selected < len(times)]]


def pack_times(times: Sequence[float]) -> tuple[int, str]:
    """Compress ascending times without loss. Return the ticks per second (0: seconds are stored) and the compressed text.

    The times of a video are multiples of a time base, and most intervals between them are equal.
    """
    values = np.asarray(times, np.float64)
    rate = math.lcm(*(Fraction(t).limit_denominator(MAX_DENOMINATOR).denominator for t in [*times[:64], *times[-1:]]))
    ticks = np.rint(values * rate)
    if rate < EXACT_INTEGERS and (ticks < EXACT_INTEGERS).all() and (ticks / rate == values).all():
        return rate, _compress(np.diff(ticks, prepend=0.0).astype(np.int64))
    return 0, _compress(values)


def unpack_times(text: str, rate: int) -> Times:
    """Return the times that ``pack_times`` compressed."""
    data = zlib.decompress(base64.b64decode(text))
    if not rate:
        return np.frombuffer(data, np.float64)
    ticks: Times = np.cumsum(np.frombuffer(data, np.int64)) / rate
    return ticks


def _compress(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode("ascii")


class _TimeRecorder:
    """A sampler that records the time of every frame and selects none, so that frames need not be decoded."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def accept(self, time: float) -> bool:
        self.times.append(time)
        return False

    def __copy__(self) -> _TimeRecorder:
        """Return a recorder of its own: copies are asked in advance about frames that are not yet read."""
        return _TimeRecorder()


def read_entry(path: Path) -> VideoEntry:
    """Read the times of a video's frames. A file that cannot be read has no frames and a problem."""
    recorder = _TimeRecorder()
    try:
        with VideoFile(path, threads=1) as file:
            for _ in file.decode(recorder):
                pass
            damage, duration = file.damage.describe(), file.read_until
    except MmduetError as error:
        return VideoEntry(0.0, *pack_times(()), (str(error),))
    problems = (f"{path} is damaged: {damage}; copy or encode it again",) if damage else ()
    return VideoEntry(duration, *pack_times(recorder.times), problems)


def _read_all(paths: Sequence[Path], workers: int) -> Iterator[VideoEntry]:
    if workers <= 1 or len(paths) < 2:
        yield from map(read_entry, paths)
        return
    context = get_context("spawn")  # forking a process with threads may hang
    with ProcessPoolExecutor(min(workers, len(paths)), mp_context=context) as pool:
        yield from pool.map(read_entry, paths, chunksize=CHUNK_VIDEOS)


class _Cache:
    """Entries by path in a JSON file; an entry is valid while size and modification time of its video are the same."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path is not None:
            with suppress(OSError, ValueError, KeyError, TypeError):  # a cache that cannot be read is rebuilt
                content = json.loads(path.read_bytes())
                self._rows = dict(content["videos"]) if content["version"] == CACHE_VERSION else {}

    def find(self, path: Path) -> VideoEntry | None:
        row = self._rows.get(str(path.absolute()))
        with suppress(OSError, TypeError, KeyError, ValueError):
            if row is not None and row["file"] == _file_state(path):
                values = {name: row[name] for name in ("duration", "rate", "times")}
                return VideoEntry(**values, problems=tuple(row["problems"]))
        return None

    def add(self, path: Path, entry: VideoEntry) -> None:
        with suppress(OSError):  # a missing file is looked for again
            self._rows[str(path.absolute())] = {
                "file": _file_state(path),
                "duration": entry.duration,
                "rate": entry.rate,
                "times": entry.times,
                "problems": list(entry.problems),
            }

    def save(self) -> None:
        if self._path is not None:
            with as_option_error(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"version": CACHE_VERSION, "videos": self._rows})


def _file_state(path: Path) -> list[int]:
    """Return the size and the modification time of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
