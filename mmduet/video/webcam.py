"""Read a camera of this machine with OpenCV, because PyAV's wheels lack FFmpeg's camera support."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mmduet.errors import OptionError, SourceError
from mmduet.events import Frame
from mmduet.video.sampling import FrameSampler
from mmduet.video.source import VideoInfo

NAME = "webcam"


def is_webcam(name: str) -> bool:
    """``webcam``, ``webcam:1`` or ``webcam:/dev/video2``."""
    return name == NAME or name.startswith(f"{NAME}:")


class Webcam:
    """A camera by number or by the system's path to it. Raises ``SourceError`` where it gives no picture.

    Its frames are timed by ``clock``, from the first one on: cameras promise no rate, and keep none in the dark.
    """

    live = True

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        device = name.partition(":")[2] or "0"
        self._name, self._clock, self._stopped = name, clock, False
        self._capture = _opened(int(device) if device.isdigit() else device, name)
        first = self._read()
        self._first = (clock(), first)
        self.info = VideoInfo(name, first.shape[1], first.shape[0], None, None)

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Frames at ``fps`` (None: every frame) in RGB, until it is closed; those that nobody took in time are gone."""
        began, picture = self._first
        ticks, number, index, now = FrameSampler(fps), 0, 0, began
        try:
            while not self._stopped:
                if ticks.accept(now - began):
                    yield Frame(index, now - began, picture, number)
                    index += 1
                picture, now, number = self._read(), self._clock(), number + 1
        finally:
            self._capture.release()

    def close(self) -> None:
        """Stop reading; from another thread, too."""
        self._stopped = True

    def _read(self) -> Any:
        there, picture = self._capture.read()
        if not there:
            raise SourceError(f"{self._name} gives no picture; is it plugged in, and does no other program use it?")
        return np.ascontiguousarray(picture[:, :, ::-1])  # OpenCV has blue first


def _opened(device: int | str, name: str) -> Any:
    try:
        import cv2
    except ImportError:
        raise OptionError("webcams need OpenCV; pip install 'mmduet[webcam]'") from None
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        raise SourceError(f"{name} cannot be opened; name another camera as {NAME}:NUMBER")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what is read is what is seen now
    return capture
