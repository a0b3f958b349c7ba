"""Splits on disk: same bytes for the same seed, resumable, rejected for another recipe; pixels that show the scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmduet.annotations.scene_files import read_clips
from mmduet.annotations.training_samples import read_dense_captioning, read_grounding, read_magqa
from mmduet.errors import AnnotationError, OptionError
from mmduet.scenes import SplitSpec, make_split
from mmduet.scenes.dataset import event_to_dict, spec_to_dict
from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.scenes.world import COLOURS, Event, Scene, SceneObject
from mmduet.video import open_frames

SPEC = SplitSpec("train", 3, 11, 8.0, 9.0, size=64, fps=4.0)


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_split(tmp_path_factory.mktemp("scenes") / "s", SPEC, workers=1)


def test_the_same_seed_gives_the_same_bytes(split: Path, tmp_path: Path) -> None:
    assert files(make_split(tmp_path / "again", SPEC, workers=2)) == files(split)
    other = files(make_split(tmp_path / "other", replace(SPEC, seed=12, count=1), workers=1))
    assert other["videos/00000.mp4"] != files(split)["videos/00000.mp4"]


def test_splits_of_one_seed_differ(split: Path, tmp_path: Path) -> None:
    test = make_split(tmp_path / "test", replace(SPEC, split="test", count=1), workers=1)
    assert read_clips(test)[0]["events"] != read_clips(split)[0]["events"]


def test_only_missing_clips_are_made_again(split: Path, tmp_path: Path) -> None:
    expected = files(split)
    root = make_split(tmp_path / "s", SPEC, workers=1)
    (root / "clips/00001.json").unlink()
    (root / "videos/00001.mp4").write_bytes(b"half")
    untouched = (root / "videos/00000.mp4").stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    make_split(root, SPEC, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert files(root) == expected
    assert steps == [(2, 3), (3, 3)]
    assert (root / "videos/00000.mp4").stat().st_mtime_ns == untouched


def test_a_split_may_grow(split: Path, tmp_path: Path) -> None:
    root = make_split(tmp_path / "s", replace(SPEC, count=1), workers=1)
    make_split(root, SPEC, workers=1)
    assert files(root) == files(split)


@pytest.mark.parametrize("change", [{"seed": 12}, {"count": 2}, {"fps": 5.0}, {"size": 66}, {"split": "val"}])
def test_a_split_of_another_recipe_is_rejected_and_unchanged(split: Path, change: dict) -> None:
    before = files(split)
    message = rf"contains scenes of another recipe \(different: {next(iter(change))}\); use an empty directory"
    with pytest.raises(OptionError, match=message):
        make_split(split, replace(SPEC, **change), workers=1)
    assert files(split) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "all"}, "split must be one of train, val, test, got 'all'"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"min_seconds": 4.0}, "clip lengths must satisfy 5 <= min <= max <= 3600 seconds, got 4.0 to 9.0"),
        ({"max_seconds": 7.0}, "clip lengths must satisfy 5 <= min <= max <= 3600 seconds, got 8.0 to 7.0"),
        ({"size": 65}, "size must be an even number of pixels, at least 64, got 65"),
        ({"size": 62}, "size must be an even number of pixels, at least 64, got 62"),
        ({"fps": 0.5}, "fps must be between 1 and 60, got 0.5"),
        ({"fps": 61}, "fps must be between 1 and 60, got 61"),
    ],
)
def test_invalid_recipes_are_rejected(change: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(SPEC, **change)


def test_a_directory_that_is_not_a_split_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="scenes make"):
        read_clips(tmp_path)


def test_training_annotations_can_be_read(split: Path) -> None:
    clips = read_clips(split)
    dense, magqa, grounding = (
        read(split / name)
        for read, name in (
            (read_dense_captioning, "dense_captioning.json"), (read_magqa, "magqa.json"), (read_grounding, "grounding.json"),
        )
    )  # fmt: skip
    assert [s.video for s in dense] == [c["video"] for c in clips]
    for sample, clip in zip(dense, clips, strict=True):
        assert [a.text for a in sample.answers] == [e["text"] for e in clip["events"]]
        assert all(0 <= a.timespan[0] < a.time for a in sample.answers)
    assert len(magqa) == sum(len(c["questions"]) for c in clips)
    assert len(grounding) == sum(len(c["groundings"]) + 1 for c in clips)
    durations = {c["video"]: c["duration"] for c in clips}
    assert all(0 <= s < e <= durations[g.video] for g in grounding for s, e in g.spans)


def test_test_files_have_the_fields_of_their_formats(split: Path) -> None:
    magqa, grounding = (json.loads((split / f"{kind}_test.json").read_text()) for kind in ("magqa", "grounding"))
    names = {c["video"] for c in read_clips(split)}
    ids = [q["question_id"] for q in magqa]
    assert len(ids) == len(set(ids))
    for q in magqa:
        assert q.keys() == {"question_id", "video", "conversation", "answer"}
        assert all(a.keys() == {"content", "time"} and len(a["time"]) == 2 for a in q["answer"])
        assert [t["role"] for t in q["conversation"]] == ["user"]
        assert q["video"] in names
    for q in grounding:
        assert q.keys() == {"question_id", "video", "conversation", "timestamps"}
        assert q["timestamps"]
    rows = [json.loads(line) for line in (split / "highlights.jsonl").read_text().splitlines()]
    assert [r["qid"] for r in rows] == list(range(len(rows)))
    for r in rows:
        assert r.keys() == {
            "qid",
            "vid",
            "query",
            "duration",
            "relevant_clip_ids",
            "saliency_scores",
            "relevant_windows",
        }
        assert r["vid"] in names
        assert max(r["relevant_clip_ids"]) < r["duration"] / 2


# pixels


def nearest(pixel: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.abs(np.array(COLOURS[name]) - pixel).sum()))


def clearly_visible(scene: Scene, time: float) -> Iterator[SceneObject]:
    """Yield objects whose centre is not covered and whose colour is not changing."""
    for obj in (t for t in scene.objects if t.is_present(time)):
        x, y = obj.x.at(time), obj.y.at(time)
        nearer = [
            t for t in scene.objects if t.is_present(time) and t is not obj and t.depth_at(time) > obj.depth_at(time)
        ]
        covered = any(np.hypot(t.x.at(time) - x, t.y.at(time) - y) < 1.2 * t.radius.at(time) for t in nearer)
        turning = any(end - 0.3 <= time < end + 0.05 for end, _ in obj.colours[1:])
        if 0.03 < x < 0.97 and 0.03 < y < 0.97 and not covered and not turning:
            yield obj


def centre(image: np.ndarray, obj: SceneObject, time: float) -> np.ndarray:
    """Return the mean colour of the pixels at the object's centre."""
    size = len(image)
    x, y = (int(v.at(time) * size) for v in (obj.x, obj.y))
    return image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3).mean(0)


@pytest.mark.parametrize("seed", range(6))
def test_pixels_show_each_object_in_its_colour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = generate_scene(rng, 12.0)
    style = make_render_style(rng, 96)
    checked = 0
    for time in np.arange(0, 12, 0.5):
        image = render_frame(scene, style, float(time), 96)
        for obj in clearly_visible(scene, float(time)):
            assert nearest(centre(image, obj, float(time))) == obj.colour_at(float(time))
            checked += 1
    assert checked > 5


def test_hidden_objects_are_not_rendered() -> None:
    """Another colour of a hidden object changes pixels by rounding errors only."""
    found = 0
    for seed in range(200):
        scene = generate_scene(np.random.default_rng(seed), 12.0)
        for obj in scene.objects:
            for start, end in obj.hidden:
                time = start + 0.01
                if not obj.is_present(time) or end <= time:
                    continue
                style = make_render_style(np.random.default_rng(seed), 96)
                before = render_frame(scene, style, time, 96).astype(int)
                obj.tint = (200, -200, 200)
                assert np.abs(render_frame(scene, style, time, 96) - before).max() <= 1
                found += 1
    assert found > 5


def test_decoded_frames_show_the_objects_of_the_boxes(split: Path) -> None:
    """At each frame's time, the pixels at the centres of the boxes have the boxes' colours."""
    right = wrong = 0
    for clip in read_clips(split):
        for frame in open_frames(split / "videos" / clip["video"], SPEC.fps):
            boxes = clip["boxes"][round(frame.time * SPEC.fps)]
            for i, (colour, _, x, y, _) in enumerate(boxes):
                covered = any(np.hypot(x - a, y - b) < 1.2 * r for _, _, a, b, r in boxes[i + 1 :])
                if covered or not (0.1 < x < 0.9 and 0.1 < y < 0.9):
                    continue
                px, py = int(x * 64), int(y * 64)
                colour_shown = nearest(frame.image[py - 1 : py + 2, px - 1 : px + 2].reshape(-1, 3).mean(0))
                right, wrong = right + (colour_shown == colour), wrong + (colour_shown != colour)
    assert right > 50
    assert wrong <= 0.02 * right  # colours that are changing


def test_there_are_boxes_for_every_frame(split: Path) -> None:
    for clip in read_clips(split):
        assert len(clip["boxes"]) == round(clip["duration"] * SPEC.fps)
        ends = [e["end"] for e in clip["events"]]
        assert all(b - a >= 0 for a, b in pairwise(ends))


def test_serialised_names_are_stable() -> None:
    assert spec_to_dict(SPEC) == {
        "split": "train", "count": 3, "seed": 11, "min_seconds": 8.0, "max_seconds": 9.0, "size": 64, "fps": 4.0, "truth": 2,
    }  # fmt: skip
    event = Event("touch", 1.0, 2.0, "the red star touches the blue cross", "red star", "blue cross")
    assert event_to_dict(event) == {
        "kind": "touch", "start": 1.0, "end": 2.0, "text": "the red star touches the blue cross",
        "subject": "red star", "other": "blue cross",
    }  # fmt: skip
