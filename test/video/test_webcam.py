"""Local cameras. OpenCV reads a file instead of a device, so only the driver is not covered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmduet.errors import SourceError
from mmduet.video import VideoWriter
from mmduet.video.open_source import open_source
from mmduet.video.webcam import Webcam

RED = (200, 30, 30)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "video.mp4", 64, 48, 8.0) as writer:
        for _ in range(16):
            writer.write(np.full((48, 64, 3), RED, np.uint8))
    return tmp_path / "video.mp4"


def test_frames_are_timed_by_the_clock_and_a_lost_camera_raises(video: Path) -> None:
    now = [100.0]

    def clock() -> float:
        now[0] += 0.2
        return now[0]

    camera = Webcam(f"webcam:{video}", clock)
    assert (camera.info.width, camera.info.height, camera.info.duration, camera.live) == (64, 48, None, True)
    frames = camera.frames(2.0)
    seen = [next(frames) for _ in range(6)]
    assert [round(frame.time, 3) for frame in seen] == [0.0, 0.6, 1.0, 1.6, 2.0, 2.6]  # images are read 0.2 s apart
    assert [frame.index for frame in seen] == list(range(6))
    assert np.abs(seen[0].image.mean((0, 1)) - RED).max() < 12, "red is red, not blue"
    with pytest.raises(
        SourceError, match="returns no image; check that it is connected and that no other program uses it"
    ):
        list(frames)


def test_reading_ends_when_the_camera_is_closed(video: Path) -> None:
    camera = open_source(f"webcam:{video}")
    frames = camera.frames(None)
    next(frames)
    camera.close()
    assert list(frames) == []


@pytest.mark.parametrize("name", ["webcam", "webcam:", "webcam:9", "webcam:/dev/none"])
def test_a_missing_camera_is_named_in_the_error(name: str) -> None:
    with pytest.raises(SourceError, match=name):
        Webcam(name)


def test_a_missing_camera_is_one_line_without_messages_of_opencv() -> None:
    command = [sys.executable, "-m", "mmduet", "stream", "webcam:97"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == SourceError.exit_status
    assert done.stderr == "error[bad_source]: webcam:97 cannot be opened; name another camera as webcam:NUMBER\n"
