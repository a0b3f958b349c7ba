"""The domain check: rendered scenes are familiar whatever their size, bars and compression; other footage is out of domain."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from footage import FPS, Image, out_of_domain, scene_frames, write_clip

from mmduet.model.presets import NANO
from mmduet.scenes.dataset import SplitSpec, make_clip
from mmduet.video import open_frames
from mmduet.video.domain import DomainCheck, FrameColours, VisualDomain
from mmduet.video.letterbox import letterbox, resize

assert NANO.domain is not None
DOMAIN: VisualDomain = NANO.domain
SIZE = NANO.vision.image_size
SPLITS = (("test", 7), ("val", 3), ("train", 11))


def warning(frames: Iterable[tuple[float, Image]]) -> str | None:
    """Return the warning for frames as the engine sees them."""
    check = DomainCheck("nano", DOMAIN)
    unknown = any(check.add(DOMAIN.measure(letterbox(image, SIZE)), time) for time, image in frames) or check.finish()
    return check.message if unknown else None


def file_warning(path: Path, fps: float = FPS) -> str | None:
    return warning((frame.time, frame.image) for frame in open_frames(path, fps=fps))


def with_bars(image: Image, height: int, width: int) -> Image:
    """Return the image in the middle of a larger black one."""
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def variants(image: Image) -> dict[str, Image]:
    """Return a frame as other encoders and players may store it."""
    return {
        "same": image, "small": resize(image, 64, 64), "wide": resize(image, 360, 640),
        "pillarbox": with_bars(image, 288, 512), "letterbox": with_bars(image, 400, 256),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_rendered_scenes_are_familiar(seed: int) -> None:
    assert warning(scene_frames(seed)) is None


@pytest.mark.parametrize("seed", [0, 1, 21, 34])  # the last two begin with two seconds without an object
def test_scenes_that_end_early_are_familiar(seed: int) -> None:
    colours = [(time, DOMAIN.measure(letterbox(image, SIZE))) for time, image in scene_frames(seed)]
    for count in range(1, len(colours) + 1):
        check = DomainCheck("nano", DOMAIN)
        assert not any(check.add(frame, time) for time, frame in colours[:count])
        assert not check.finish(), f"after {count} frames"


@pytest.mark.parametrize("name", ["pillarbox", "letterbox", "small", "wide"])
def test_strongly_compressed_scenes_of_other_sizes_are_familiar(name: str, tmp_path: Path) -> None:
    frames = [variants(image)[name] for _, image in scene_frames(3, 6.0, 256)]
    assert file_warning(write_clip(tmp_path / "scene.mp4", frames, crf=35)) is None


@pytest.mark.parametrize("name", sorted(out_of_domain()))
def test_other_footage_is_out_of_domain(name: str) -> None:
    frames = out_of_domain()[name]()
    message = warning((step / FPS, image) for step, image in enumerate(frames))
    assert message is not None
    assert "nano knows only rendered scenes of coloured shapes" in message
    assert "Bring your own weights" in message


def test_the_guide_that_the_warning_names_exists() -> None:
    readme = Path(__file__).resolve().parents[2] / "README.md"
    assert "\n## Bring your own weights\n" in readme.read_text()


def test_a_single_frame_out_of_domain_is_judged_at_the_end() -> None:
    check = DomainCheck("nano", DOMAIN)
    assert not check.add(DOMAIN.measure(letterbox(np.full((20, 30, 3), 255, np.uint8), SIZE)), 0.0)
    assert check.finish()
    assert not check.finish()  # it is reported once


def test_a_stream_without_frames_is_not_judged() -> None:
    assert not DomainCheck("nano", DOMAIN).finish()


def test_a_stream_that_changes_to_other_footage_is_reported_once() -> None:
    check = DomainCheck("nano", DOMAIN)
    scene, other = FrameColours(objects=0.1, unknown=0.01), FrameColours(objects=0.0, unknown=0.6)
    found = [check.add(frame, step / FPS) for step, frame in enumerate([scene] * 20 + [other] * 20)]
    assert found.count(True) == 1
    assert 20 < found.index(True) < 28


def test_an_object_may_be_out_of_sight_for_some_seconds() -> None:
    check = DomainCheck("nano", DOMAIN)
    scene, empty = FrameColours(objects=0.1, unknown=0.0), FrameColours(objects=0.0, unknown=0.0)
    frames = ([scene] * 4 + [empty] * 20) * 4
    assert not any(check.add(frame, step / FPS) for step, frame in enumerate(frames))
    assert any(check.add(empty, 100 + step / FPS) for step in range(60))


@pytest.mark.parametrize(
    ("objects", "fps", "is_reported"),
    [(6, 4.0, True), (7, 4.0, False), (0, 6.0, False), (6, 100.0, False), (0, 5.0, True)],
    ids=["few", "enough", "just-too-short", "many-frames-in-a-short-time", "just-long-enough"],
)
def test_a_stream_with_objects_in_few_frames_is_reported_at_its_end(
    objects: int, fps: float, is_reported: bool
) -> None:
    check = DomainCheck("nano", DOMAIN)
    scene, empty = FrameColours(objects=0.1, unknown=0.0), FrameColours(objects=0.0, unknown=0.0)
    frames = [empty] * 13 + [scene] * objects + [empty] * (13 - objects)
    assert not any(check.add(frame, 3.0 + step / fps) for step, frame in enumerate(frames))
    assert check.finish() is is_reported
    assert not check.finish()


def test_measuring_a_frame_is_cheap() -> None:
    image = letterbox(out_of_domain()["photo"]()[0], SIZE)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        DOMAIN.measure(image)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.0005


def test_the_description_survives_json() -> None:
    assert VisualDomain.from_dict(DOMAIN.to_dict()) == DOMAIN
    for broken in ({}, DOMAIN.to_dict() | {"colours": []}, DOMAIN.to_dict() | {"colours": [[1, 2]]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            VisualDomain.from_dict(broken)


def split_clips(root: Path, count: int) -> Iterator[Path]:
    for split, seed in SPLITS:
        folder = root / split
        (folder / "clips").mkdir(parents=True)
        for index in range(count // len(SPLITS)):
            make_clip(folder, SplitSpec(split, count, seed), index)  # type: ignore[arg-type]
            yield folder / "videos" / f"{index:05d}.mp4"


@pytest.mark.slow
def test_sixty_scenes_give_no_warning_in_any_encoding(tmp_path: Path) -> None:
    for path in split_clips(tmp_path, 60):
        assert file_warning(path) is None
        assert file_warning(path, fps=1.0) is None
        frames = [frame.image for frame in open_frames(path, fps=FPS)]
        for name in variants(frames[0]):
            shown = [variants(image)[name] for image in frames]
            assert file_warning(write_clip(tmp_path / "again.mp4", shown, crf=35)) is None, (path, name)


@pytest.mark.slow
@pytest.mark.parametrize("crf", [18, 40])
def test_other_footage_is_out_of_domain_in_any_encoding(crf: int, tmp_path: Path) -> None:
    for name, frames in out_of_domain().items():
        assert file_warning(write_clip(tmp_path / f"{name}.mp4", frames(), crf=crf)) is not None, name
