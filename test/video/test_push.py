"""The queue of pushed frames: order, capacity, end and threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mmduet.errors import OptionError, VideoError
from mmduet.video import FrameSource, PushSource, VideoFile


def shade(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_frames_are_read_in_order_with_their_times() -> None:
    source = PushSource("camera", 6, 4)
    for k in range(5):
        source.push(shade(k), k / 10)
    source.end()
    frames = list(source)
    assert [(frame.index, frame.time, int(frame.image[0, 0, 0])) for frame in frames] == [
        (k, k / 10, k) for k in range(5)
    ]
    assert source.dropped == 0
    assert source.info.duration is None


def test_the_oldest_frames_are_dropped_when_the_queue_is_full() -> None:
    source = PushSource("camera", 6, 4, capacity=3)
    for k in range(8):
        source.push(shade(k), float(k))
    source.end()
    frames = list(source)
    assert [frame.time for frame in frames] == [5.0, 6.0, 7.0]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.decoded_index for frame in frames] == [5, 6, 7]
    assert source.dropped == 5


def test_a_reader_waits_for_a_writer_in_another_thread() -> None:
    source = PushSource("camera", 6, 4, capacity=1000)
    got: list[float] = []
    reader = threading.Thread(target=lambda: got.extend(frame.time for frame in source))
    reader.start()
    for k in range(300):
        source.push(shade(0), float(k))
    source.end()
    reader.join(timeout=5)
    assert got == [float(k) for k in range(300)]


def test_close_wakes_a_waiting_reader_and_discards_queued_frames() -> None:
    source = PushSource("camera", 6, 4)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    source.close()
    reader.join(timeout=5)
    assert not reader.is_alive()
    with PushSource("camera", 6, 4) as other:
        other.push(shade(0), 0.0)
    assert list(other) == []


def test_invalid_frames_and_times_are_rejected() -> None:
    source = PushSource("camera", 6, 4)
    with pytest.raises(OptionError, match="4x6 pushed to camera"):
        source.push(np.zeros((6, 4, 3), np.uint8), 0.0)
    source.push(shade(0), 1.0)
    for time in (0.9, float("nan"), float("inf")):
        with pytest.raises(
            OptionError, match=r"is before that of the last frame, 1\.0 s; push frames in order of time"
        ):
            source.push(shade(0), time)
    source.end()
    with pytest.raises(VideoError, match="ended"):
        source.push(shade(0), 2.0)
    with pytest.raises(OptionError, match="capacity must be at least 1, got 0"):
        PushSource("camera", 6, 4, capacity=0)


def test_sources_implement_the_frame_source_protocol() -> None:
    source: FrameSource = PushSource("camera", 6, 4)
    assert isinstance(source, FrameSource)
    assert {"info", "__iter__", "close", "__enter__", "__exit__"} <= set(dir(VideoFile))
