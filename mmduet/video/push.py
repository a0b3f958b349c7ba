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
    """A bounded queue as a FrameSource. If the queue is full, the oldest frame is dropped; ``dropped`` counts them.

    ``width`` and ``height`` are those of the stream; frames of another size are rejected. Iteration waits for frames until
    ``end`` or ``close``. ``Frame.index`` numbers the frames read, ``decoded_index`` the frames pushed.
    """

    def __init__(self, name: str, width: int, height: int, capacity: int = 64, fps: float | None = None) -> None:
        if capacity < 1:
            raise OptionError(f"capacity must be at least 1, got {capacity}")
        self.info = VideoInfo(name, width, height, None, fps)
        self.dropped = 0
        self._capacity = capacity
        self._queue: deque[tuple[int, float, NDArray[np.uint8]]] = deque()
        self._pushed = 0
        self._read = 0
        self._last_time = 0.0
        self._ended = False
        self._changed = Condition()

    def push(self, image: NDArray[np.uint8], time: float) -> None:
        """Add RGB uint8 ``[H, W, 3]`` at ``time`` seconds, not before the last frame. Raises VideoError after ``end``."""
        self._check(image)
        with self._changed:
            self._check_time(time)
            if len(self._queue) == self._capacity:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append((self._pushed, time, image))
            self._pushed += 1
            self._last_time = time
            self._changed.notify()

    def end(self) -> None:
        """End the stream; queued frames can still be read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the stream and discard queued frames."""
        with self._changed:
            self._queue.clear()
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
            self._changed.wait_for(lambda: self._queue or self._ended)
            if not self._queue:
                return None
            decoded_index, time, image = self._queue.popleft()
            index = self._read
            self._read += 1
        return Frame(index, time, image, decoded_index)

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
        if not self._last_time <= time < math.inf:
            raise OptionError(
                f"frame time {time} s is before that of the last frame, {self._last_time} s; push frames in order of time"
            )
