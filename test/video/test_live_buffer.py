"""The queue between a live source and a slower reader."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest

from mmduet.errors import SourceError
from mmduet.events import Frame
from mmduet.video.live_buffer import LiveBuffer, buffer_size

IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_the_oldest_frames_are_dropped_and_counted() -> None:
    first_taken, all_sent = Event(), Event()

    def camera() -> Iterator[Frame]:
        yield Frame(0, 0.0, IMAGE)
        assert first_taken.wait(20)
        for number in range(1, 11):
            yield Frame(number, number / 4, IMAGE)
        all_sent.set()

    buffer = LiveBuffer(camera(), 3)
    assert next(buffer).index == 0
    first_taken.set()
    assert all_sent.wait(20)
    assert [frame.index for frame in buffer] == [8, 9, 10]
    assert buffer.dropped == 7


def test_nothing_is_read_before_the_first_frame_is_taken() -> None:
    def camera() -> Iterator[Frame]:
        raise AssertionError("reads")
        yield

    LiveBuffer(camera(), 3).close()


def test_a_reader_that_keeps_up_loses_nothing() -> None:
    taken = Event()

    def camera() -> Iterator[Frame]:
        for number in range(10):
            yield Frame(number, number / 4, IMAGE)
            assert taken.wait(20)
            taken.clear()

    buffer, received = LiveBuffer(camera(), 2), []
    for frame in buffer:
        received.append(frame.index)
        taken.set()
    assert received == list(range(10))
    assert buffer.dropped == 0


def test_an_error_is_raised_after_the_frames_before_it() -> None:
    def camera() -> Iterator[Frame]:
        yield Frame(0, 0.0, IMAGE)
        raise SourceError("the camera is gone")

    buffer = LiveBuffer(camera(), 2)
    assert next(buffer).index == 0
    with pytest.raises(SourceError, match="the camera is gone"):
        next(buffer)


def test_closing_ends_the_iteration_and_the_source() -> None:
    waiting, closed, device_closed = Event(), Event(), Event()

    def camera() -> Iterator[Frame]:
        try:
            yield Frame(0, 0.0, IMAGE)
            waiting.set()
            assert device_closed.wait(20)
            yield Frame(1, 0.25, IMAGE)
        finally:
            closed.set()

    buffer = LiveBuffer(camera(), 2)
    assert next(buffer).index == 0
    assert waiting.wait(20)
    buffer.interrupt()
    assert list(buffer) == []
    device_closed.set()
    buffer.close()
    assert closed.is_set()


@pytest.mark.parametrize(("fps", "size"), [(0.5, 2), (2.0, 2), (4.0, 4), (100.0, 32), (None, 32)])
def test_a_second_of_video_waits_at_most(fps: float | None, size: int) -> None:
    assert buffer_size(fps) == size
