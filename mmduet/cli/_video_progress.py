"""A progress bar of the seconds of video that a command has processed, with the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.cli._display import is_terminal
from mmduet.errors import MmduetError
from mmduet.text import to_printable

if TYPE_CHECKING:
    from mmduet.events import Frame


class VideoProgress:
    """The bar over all videos of a command, on stderr if that is a terminal. Frames may be reported by any thread."""

    def __init__(self, videos: Sequence[Path], quiet: bool) -> None:
        self._videos, self._shown = videos, not quiet and is_terminal(sys.stderr)
        self._seconds: dict[Path, float] = {}  # processed, by video
        self._durations = {video: _duration(video) for video in videos} if self._shown else {}
        if not self._shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[clock]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("loading the model", total=None, clock="")

    @contextmanager
    def show(self) -> Iterator[None]:
        """Display the bar while the block runs; results are printed while it is not displayed."""
        if not self._shown:
            yield
            return
        self._bar.start()
        try:
            yield
        finally:
            self._bar.stop()

    def on_frame(self, video: Path, frame: Frame) -> None:
        """Report a frame that is about to be processed."""
        self._seconds[video] = frame.time
        self._update()

    def on_result(self, video: Path) -> None:
        """Report a finished video."""
        self._seconds[video] = self._durations.get(video) or self._seconds.get(video, 0.0)
        self._update()

    def _update(self) -> None:
        if not self._shown:
            return
        done = sum(self._seconds.get(video, 0.0) for video in self._videos)
        total = sum(self._durations[video] or 0.0 for video in self._videos)
        if not all(self._durations.values()):
            total = 0.0  # of one video it is unknown
        name = f"{len(self._videos)} videos" if len(self._videos) > 1 else to_printable(self._videos[0].name)
        clock = f"{min(done, total):.0f} of {total:.0f} s" if total else f"{done:.0f} s"
        self._bar.update(self._task, description=f"processing {name}", completed=done, total=total or None, clock=clock)


def _duration(video: Path) -> float | None:
    """Return the declared duration of a video file in seconds, None if there is none."""
    from mmduet.video import VideoFile

    try:
        if not video.is_file():  # a pipe can be read only once
            return None
        with VideoFile(video) as file:
            return file.info.duration
    except (MmduetError, OSError):
        return 1e-3  # the error is reported when the video's turn comes
