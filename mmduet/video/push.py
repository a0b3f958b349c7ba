"""A queue of frames that one thread pushes and another reads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from threading import Condition
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import OptionError, VideoError
from mmduet.events import Frame
from mmduet.video.letterbox import check_image
from mmduet.video.source import VideoInfo


class PushSource:
    """A bounded queue that is a FrameSource: when the reader falls behind, the oldest frames go and ``dropped`` counts.

    ``width`` and ``height`` describe the stream; a frame of another size is refused. Iteration waits for frames until
    ``end`` or ``close``. ``Frame.index`` counts the frames handed out, ``decoded_index`` those pushed.
    """

    def __init__(self, name: str, width: int, height: int, capacity: int = 64, fps: float | None = None) -> None:
        if capacity < 1:
            raise OptionError(f"capacity must be at least 1, got {capacity}")
        self.info = VideoInfo(name, width, height, None, fps)
        self.dropped = 0
        self._capacity = capacity
        self._waiting: deque[tuple[int, float, NDArray[np.uint8]]] = deque()
        self._pushed = 0
        self._taken = 0
        self._last = 0.0
        self._ended = False
        self._changed = Condition()

    def push(self, image: NDArray[np.uint8], time: float) -> None:
        """Add RGB uint8 ``[H, W, 3]`` at ``time`` seconds, not before the last one; raises VideoError after the end."""
        self._check(image)
        with self._changed:
            self._check_time(time)
            if len(self._waiting) == self._capacity:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((self._pushed, time, image))
            self._pushed += 1
            self._last = time
            self._changed.notify()

    def end(self) -> None:
        """No more frames will come; those waiting are still handed out."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """End at once: what waits is thrown away."""
        with self._changed:
            self._waiting.clear()
        self.end()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                return None
            place, time, image = self._waiting.popleft()
            index = self._taken
            self._taken += 1
        return Frame(index, time, image, place)

    def _check(self, image: NDArray[np.uint8]) -> None:
        check_image(image)
        if image.shape[:2] != (self.info.height, self.info.width):
            raise OptionError(
                f"frame of {image.shape[1]}x{image.shape[0]} pushed to {self.info.name}, which is "
                f"{self.info.width}x{self.info.height}; scale it first"
            )

    def _check_time(self, time: float) -> None:
        if self._ended:
            raise VideoError(f"frame at {time} s pushed to {self.info.name}, which has ended; open a new source")
        if not self._last <= time < math.inf:
            raise OptionError(f"frame time {time} s does not follow {self._last} s; push in order of time, from 0 up")
