"""One video of a pipeline while it runs: its configuration, its frames, and the result built from its outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from mmduet.client.connection_status import ConnectionStatus, log_connection_status
from mmduet.errors import MmduetError, VideoError
from mmduet.events import Frame, Output
from mmduet.options import Profile
from mmduet.pipelines.jobs import R, VideoResult
from mmduet.tasks.base import ModelDefaults, RunConfig, StreamResult, Task
from mmduet.video import VideoFile
from mmduet.video.damage import NO_DAMAGE
from mmduet.video.reader import FrameReader
from mmduet.video.sampling import check_rate, expected_frames

FrameCallback = Callable[[Path, Frame], None]  # called from the thread that reads the video
ConnectionCallback = Callable[[Path, ConnectionStatus], None]  # called from the thread of the connection


@dataclass(frozen=True)
class TaskSettings(Generic[R]):
    """Settings that all videos of a call share. ``fps`` or ``speak`` None keeps the value of the task's configuration.

    With ``strict_video`` damage in a video is an error of its result.
    """

    task: Task[R]
    fps: float | None = None
    speak: str | None = None
    on_frame: FrameCallback | None = None
    strict_video: bool = False
    on_connection_change: ConnectionCallback | None = None

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return the configuration for a model with these defaults."""
        return self.task.run_config(defaults).with_overrides(self.fps, self.speak)


class TaskRun(Generic[R]):
    """Video number ``index`` of a call. Its frames end early once ``stop`` is set."""

    def __init__(self, index: int, video: Path, settings: TaskSettings[R], stop: threading.Event) -> None:
        self.index, self.video, self._settings, self._stop = index, video, settings, stop
        self._model = ""
        self._config: RunConfig | None = None
        self._frame_size: int | None = None
        self._reader: FrameReader | None = None
        self._error: VideoError | None = None

    def on_connection_change(self, status: ConnectionStatus) -> None:
        """Report a change of the connection over which the video is sent; log it if the caller has not asked for it."""
        if self._settings.on_connection_change is not None:
            self._settings.on_connection_change(self.video, status)
        else:
            log_connection_status(status)

    def configure(self, model: str, defaults: ModelDefaults, frame_size: int | None = None) -> RunConfig:
        """Set the model that runs the video and return the configuration for it.

        With ``frame_size``, frames are letterboxed to that size while they are read, unless they are reported.
        """
        self._model, self._config = model, self._settings.run_config(defaults)
        self._frame_size = frame_size if self._settings.on_frame is None else None
        return self._config

    def frames(self) -> Iterator[Frame]:
        """Yield the sampled frames. Call ``configure`` before.

        Raises:
            VideoError: The file cannot be read. After the first frame the error is kept for the result instead, so that the
                frames before it are still processed.
        """
        for frame in self._read():
            if self._stop.is_set():
                return
            if self._settings.on_frame is not None:
                self._settings.on_frame(self.video, frame)
            yield frame

    def _read(self) -> Iterator[Frame]:
        assert self._config is not None
        config, has_frames = self._config, False
        try:
            self._reader = open_limited(
                self.video,
                config.fps,
                config.profile,
                config.max_frames,
                size=self._frame_size,
                strict=self._settings.strict_video,
            )
            for frame in self._reader:
                has_frames = True
                yield frame
        except VideoError as error:
            if not has_frames:
                raise
            self._error = error

    def result(self, events: Sequence[Output], error: MmduetError | None = None) -> VideoResult[Path, R]:
        """Return the result for the session's outputs; ``error`` ended the session before its regular end.

        A session that failed, or a task that raises ``MmduetError`` for its scores and replies, gives a result with that error.
        """
        output = stream = None
        reader = self._reader
        if error is None:
            try:
                duration = None if reader is None or self._error is not None else reader.duration
                stream = StreamResult.from_outputs(events, duration, None if reader is None else reader.last_frame_end)
                output = self._settings.task.result(stream)
            except MmduetError as raised:
                error = raised
        damage, info = (NO_DAMAGE, None) if reader is None else (reader.damage, reader.info)
        return VideoResult(
            self.video, output, stream, error or self._error, self._model, self._config, events, damage, info
        )


def open_limited(
    path: Path,
    fps: float | None,
    profile: Profile,
    max_frames: int | None,
    *,
    size: int | None = None,
    strict: bool = False,
) -> FrameReader:
    """Open a video and return its sampled frames, letterboxed to ``size`` if it is given.

    At most ``max_frames`` frames are returned. The ``paper`` profile also limits them by the video's declared duration, unless
    the video turns out to be longer.

    Raises:
        VideoError: The file cannot be read.
    """
    check_rate("fps", fps)
    file = VideoFile(path, strict=strict)
    expected = expected_frames(profile, file.info.duration, fps)
    return FrameReader(file, fps, profile, max_frames, size, expected_frames=expected)
