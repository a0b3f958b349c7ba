"""Disturb the file system of the journal: fill it, or freeze it so that every write waits."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from mmduet.bench.chaos.disturbance import sleep_until
from mmduet.errors import OptionError

MAX_FILE_SYSTEM_BYTES = 1 << 30
BALLAST_NAME = "ballast"
CHUNK_BYTES = (1 << 20, 4096, 1)
"""Sizes of the writes that fill a disk to the last byte."""
FREEZE, THAW = 0xC0045877, 0xC0045878
"""Linux' ioctls FIFREEZE and FITHAW, as in ``fsfreeze``."""


def check_small_file_system(folder: Path) -> None:
    """Raise ``OptionError`` unless the folder is on a file system of its own that nothing else suffers from."""
    folder.mkdir(parents=True, exist_ok=True)
    stats = os.statvfs(folder)
    size = stats.f_blocks * stats.f_frsize
    if size > MAX_FILE_SYSTEM_BYTES:
        raise OptionError(
            f"the file system of {folder} has {size >> 20} MiB and may be used by others; mount one of at most "
            f"{MAX_FILE_SYSTEM_BYTES >> 20} MiB for the journal (docs/serving.md shows how)"
        )


@dataclass
class FullDisk:
    """Fill the journal's file system with a file, delete it after ``hold_seconds``, and wait ``pause_seconds``; repeat."""

    folder: Path
    pause_seconds: float = 15.0
    hold_seconds: float = 8.0
    times: int = 0
    name = "full_disk"
    observes = False

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless the file system is small."""
        check_small_file_system(self.folder)

    async def run(self, end: float) -> None:
        """Fill the disk repeatedly."""
        ballast = self.folder / BALLAST_NAME
        try:
            while await sleep_until(monotonic() + self.pause_seconds, end):
                full_until = monotonic() + self.hold_seconds
                self.times += 1
                while monotonic() < min(full_until, end):  # what the server frees is filled again
                    await asyncio.to_thread(_fill, ballast)
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(ballast.unlink)
        finally:  # in a thread: ``BlockedDisk`` must be able to thaw the file system meanwhile
            await asyncio.to_thread(ballast.unlink, missing_ok=True)

    @property
    def faults(self) -> list[str]:
        """Return whether the run was too short for it."""
        return [] if self.times else ["the disk was never filled; run longer"]

    def to_dict(self) -> dict[str, Any]:
        """Return how often the disk was full."""
        return {"times": self.times, "seconds_each": self.hold_seconds}


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for size in CHUNK_BYTES:
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@dataclass
class BlockedDisk:
    """Freeze the journal's file system for ``hold_seconds``, in which every write waits; needs root and a real file system."""

    folder: Path
    pause_seconds: float = 17.0
    hold_seconds: float = 4.0
    times: int = 0
    name = "blocked_disk"
    observes = False

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless the file system is small and can be frozen."""
        check_small_file_system(self.folder)
        try:
            self._control(FREEZE)
            self._control(THAW)
        except OSError as error:
            raise OptionError(
                f"the file system of {self.folder} cannot be frozen ({error.strerror}); that needs root on Linux and a file "
                "system such as ext4 or XFS on a loop device"
            ) from None

    async def run(self, end: float) -> None:
        """Freeze and thaw repeatedly."""
        while await sleep_until(monotonic() + self.pause_seconds, end):
            freezing = asyncio.create_task(asyncio.to_thread(self._control, FREEZE))  # writes everything to disk first
            try:
                await asyncio.shield(freezing)
                self.times += 1
                await sleep_until(monotonic() + self.hold_seconds, end)
            finally:
                await asyncio.wait({freezing})  # even if this run is cancelled meanwhile
                self._control(THAW)

    @property
    def faults(self) -> list[str]:
        """Return whether the run was too short for it."""
        return [] if self.times else ["the disk was never blocked; run longer"]

    def to_dict(self) -> dict[str, Any]:
        """Return how often the disk was blocked."""
        return {"times": self.times, "seconds_each": self.hold_seconds}

    def _control(self, request: int) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, request, 0)
        finally:
            os.close(folder)
