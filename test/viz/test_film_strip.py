"""Film strips of video files, complete, short, damaged and absent ones."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from brightening_video import write_brightening_video
from PIL import Image

from mmduet.video import VideoWriter
from mmduet.viz.film_strip import MAX_VIDEO_SECONDS, VideoFolder


def brightness(src: str) -> float:
    head, _, body = src.partition(",")
    assert head == "data:image/jpeg;base64"
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))).mean())


def test_images_are_spread_evenly_over_the_duration(tmp_path: Path) -> None:
    write_brightening_video(tmp_path / "v.mp4", 20.0)
    strip = VideoFolder(tmp_path).strip(["v"], 20.0)  # without the suffix
    assert strip.remark == ""
    assert len(strip.images) == 11
    middles = [(slot + 0.5) * 20 / 11 for slot in range(11)]
    for middle, image in zip(middles, strip.images, strict=True):
        assert image is not None
        assert brightness(image.src) == pytest.approx(10 * middle, abs=3)  # 1 level per frame, 2 for the codec
        assert image.alt == f"Frame at {math.ceil(10 * middle) / 10:.1f} s"


def test_slots_beyond_the_end_of_the_video_have_no_image(tmp_path: Path) -> None:
    write_brightening_video(tmp_path / "v.mp4", 10.0)
    images = VideoFolder(tmp_path).strip(["v.mp4"], 20.0).images
    assert [image is None for image in images] == [False] * 6 + [True] * 5
    assert VideoFolder(tmp_path).duration(["nowhere", "v.mp4"]) == pytest.approx(10.0)


def test_wide_videos_have_fewer_images(tmp_path: Path) -> None:
    write_brightening_video(tmp_path / "wide.mp4", 2.0, size=(128, 64))
    write_brightening_video(tmp_path / "tall.mp4", 2.0, size=(64, 128))
    assert [len(VideoFolder(tmp_path).strip([name], 0.0).images) for name in ("wide", "tall")] == [6, 12]


@pytest.mark.parametrize("name", ["gone.mp4", "../v.mp4", "/etc/passwd", "", ".", "a\0b", "x" * 5000, "\ud800"])
def test_video_outside_the_folder_is_reported_as_missing(tmp_path: Path, name: str) -> None:
    write_brightening_video(tmp_path / "v.mp4", 1.0)
    (tmp_path / "inner").mkdir()
    strip = VideoFolder(tmp_path / "inner").strip([name], 5.0)
    assert strip.images == ()
    assert "is not in the folder" in strip.remark


def test_damaged_video_has_images_up_to_the_damage(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    complete = write_brightening_video(tmp_path / "cut.mp4", 20.0).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(complete[: len(complete) * 6 // 10])
    folder = VideoFolder(tmp_path)
    assert folder.strip(["empty.mp4"], 5.0).remark == "empty.mp4 cannot be read (corrupt_video)."
    assert folder.strip(["text.mp4"], 5.0).remark == "text.mp4 cannot be read (corrupt_video)."
    assert folder.duration(["text.mp4"]) == 0.0
    cut = folder.strip(["cut.mp4"], 20.0)
    assert re.fullmatch(r"cut\.mp4 is damaged: the video is cut off at \d+\.\d\d s\.", cut.remark)
    assert cut.images[0] is not None
    assert cut.images[-1] is None


def test_long_videos_are_not_decoded(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "long.mp4", 16, 16, 1.0) as writer:
        for time in (0.0, MAX_VIDEO_SECONDS + 5):
            writer.write(np.zeros((16, 16, 3), np.uint8), time)
    assert "longer than 15 minutes" in VideoFolder(tmp_path).strip(["long.mp4"], 0.0).remark
