"""Read a local camera with OpenCV, because PyAV's wheels lack FFmpeg's camera support."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mmduet.errors import OptionError, SourceError
from mmduet.events import Frame
from mmduet.video.damage import NO_DAMAGE
from mmduet.video.sampling import FrameSampler
from mmduet.video.source import VideoInfo

NAME = "webcam"


def is_webcam(name: str) -> bool:
    """Return whether ``name`` is a camera's: ``webcam``, ``webcam:1`` or ``webcam:/dev/video2``."""
    return name == NAME or name.startswith(f"{NAME}:")


class Webcam:
    """A camera, by number or device path. Raises ``SourceError`` if it cannot be read.

    Frames are timed by ``clock`` from the first one, because cameras do not keep a constant rate, for example in low light.
    """

    live = True
    retry_at = None
    damage = NO_DAMAGE
    read_duration = None

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        device = name.partition(":")[2] or "0"
        self._name, self._clock, self._stopped = name, clock, False
        self._capture = _open_camera(int(device) if device.isdigit() else device, name)
        first = self._read()
        self._first = (clock(), first)
        self.info = VideoInfo(name, first.shape[1], first.shape[0], None, None)

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield frames at ``fps`` (None: every frame) in RGB until the camera is closed. Frames not read in time are lost."""
        started, image = self._first
        sampler, number, index, now = FrameSampler(fps), 0, 0, started
        try:
            while not self._stopped:
                if sampler.accept(now - started):
                    yield Frame(index, now - started, image, number)
                    index += 1
                image, now, number = self._read(), self._clock(), number + 1
        finally:
            self._capture.release()

    def close(self) -> None:
        """Stop reading. May be called from another thread."""
        self._stopped = True

    def _read(self) -> Any:
        success, image = self._capture.read()
        if not success:
            raise SourceError(
                f"{self._name} returns no image; check that it is connected and that no other program uses it"
            )
        return np.ascontiguousarray(image[:, :, ::-1])  # OpenCV returns BGR


def _open_camera(device: int | str, name: str) -> Any:
    try:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # its lines name parts of its source code
        import cv2
    except ImportError:
        raise OptionError("webcams need OpenCV; run: pip install 'mmduet[webcam]'") from None
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        raise SourceError(f"{name} cannot be opened; name another camera as {NAME}:NUMBER")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # read the latest frame, not a buffered one
    return capture
