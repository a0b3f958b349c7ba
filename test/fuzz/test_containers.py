"""Damaged video files and images: they play, or are errors of the project."""

from __future__ import annotations

from pathlib import Path

from container_files import MAKERS, WORDS, intact
from fuzzing import apply_edits, edits, fuzz, only_own_errors
from hypothesis import strategies as st

from mmduet.spans import Span
from mmduet.video import VideoFile, open_frames
from mmduet.video.cutter import ClipSpec, copy_clip, cut_clips
from mmduet.video.image import decode_image

MAX_FRAMES = 40


def play(path: Path) -> None:
    with VideoFile(path) as file:
        assert file.info.width > 0
        assert file.info.height > 0
    times = []
    for frame in open_frames(path, 4.0, "fixed", MAX_FRAMES):
        assert frame.image.shape[2] == 3
        times.append(frame.time)
    assert times == sorted(set(times))


def test_containers(tmp_path: Path, share: float) -> None:
    def check(case: tuple[str, list, bool]) -> None:
        name, changes, cutting = case
        data = apply_edits(intact(name), changes)
        path = tmp_path / f"file.{name}"
        path.write_bytes(data)
        with only_own_errors():
            play(path)
        with only_own_errors():
            decode_image(data)
        if cutting:
            with only_own_errors():
                cut_clips(path, [ClipSpec(tmp_path / "cut.mp4", (Span(0.2, 0.9),))])
            with only_own_errors():
                copy_clip(path, ClipSpec(tmp_path / "copy.mp4", (Span(0.2, 0.9),)))
        assert {each.name for each in tmp_path.iterdir()} <= {path.name, "cut.mp4", "copy.mp4", *known}

    known: set[str] = {f"file.{name}" for name in MAKERS}
    fuzz("containers", share, st.tuples(st.sampled_from(sorted(MAKERS)), edits(WORDS), st.booleans()), check, 12)
