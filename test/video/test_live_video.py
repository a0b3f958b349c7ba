"""Live streams on connections made by hand: when a broken connection is opened again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from mmduet.video.connection import StreamFrame
from mmduet.video.damage import DamageLog
from mmduet.video.live import LiveVideo


class BreakingConnection:
    """A connection that breaks after one frame."""

    live, keeps_unread, ended = True, True, False
    duration = fps = None

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        yield StreamFrame(start, 8, 8, lambda: np.zeros((8, 8, 3), np.uint8))
        raise OSError("the connection broke")

    def close(self) -> None:
        """Do nothing."""


def test_a_pause_of_the_reader_does_not_count_as_time_without_a_connection() -> None:
    video = LiveVideo("camera", BreakingConnection, reconnect_seconds=0.2)
    frames = video.frames(None)
    assert next(frames).decoded_index == 0
    time.sleep(0.3)
    assert next(frames).decoded_index == 1
    assert video.retry_at is None
    video.close()
