"""Cameras of this machine: OpenCV reads a file where a camera should be, so only the driver is not tested here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmduet.errors import SourceError
from mmduet.video import VideoWriter
from mmduet.video.open_source import open_source
from mmduet.video.webcam import Webcam

RED = (200, 30, 30)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "film.mp4", 64, 48, 8.0) as writer:
        for _ in range(16):
            writer.write(np.full((48, 64, 3), RED, np.uint8))
    return tmp_path / "film.mp4"


def test_it_is_timed_by_the_clock_on_the_wall_and_says_when_it_is_gone(film: Path) -> None:
    now = [100.0]

    def clock() -> float:
        now[0] += 0.2
        return now[0]

    camera = Webcam(f"webcam:{film}", clock)
    assert (camera.info.width, camera.info.height, camera.info.duration, camera.live) == (64, 48, None, True)
    frames = camera.frames(2.0)
    seen = [next(frames) for _ in range(6)]
    assert [round(frame.time, 3) for frame in seen] == [0.0, 0.6, 1.0, 1.6, 2.0, 2.6]  # pictures .2 s apart
    assert [frame.index for frame in seen] == list(range(6))
    assert np.abs(seen[0].image.mean((0, 1)) - RED).max() < 12, "red is red, not blue"
    with pytest.raises(SourceError, match="no picture"):
        list(frames)


def test_it_ends_when_it_is_closed(film: Path) -> None:
    camera = open_source(f"webcam:{film}")
    frames = camera.frames(None)
    next(frames)
    camera.close()
    assert list(frames) == []


@pytest.mark.parametrize("name", ["webcam", "webcam:", "webcam:9", "webcam:/dev/none"])
def test_one_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SourceError, match=name):
        Webcam(name)
