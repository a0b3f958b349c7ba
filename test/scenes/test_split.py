"""A split on disk: the same bytes for the same seed, resumable, refused where it is another's; pixels that show the plot."""

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
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_split(tmp_path_factory.mktemp("scenes") / "s", SPEC, workers=1)


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert files(make_split(tmp_path / "again", SPEC, workers=2)) == files(made)
    other = files(make_split(tmp_path / "other", replace(SPEC, seed=12, count=1), workers=1))
    assert other["videos/00000.mp4"] != files(made)["videos/00000.mp4"]


def test_splits_of_one_seed_differ(made: Path, tmp_path: Path) -> None:
    test = make_split(tmp_path / "test", replace(SPEC, split="test", count=1), workers=1)
    assert read_clips(test)[0]["events"] != read_clips(made)[0]["events"]


def test_what_is_missing_is_made_again_and_nothing_else(made: Path, tmp_path: Path) -> None:
    wanted = files(made)
    root = make_split(tmp_path / "s", SPEC, workers=1)
    (root / "clips/00001.json").unlink()
    (root / "videos/00001.mp4").write_bytes(b"half")
    untouched = (root / "videos/00000.mp4").stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    make_split(root, SPEC, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert files(root) == wanted
    assert steps == [(2, 3), (3, 3)]
    assert (root / "videos/00000.mp4").stat().st_mtime_ns == untouched


def test_a_split_may_grow(made: Path, tmp_path: Path) -> None:
    root = make_split(tmp_path / "s", replace(SPEC, count=1), workers=1)
    make_split(root, SPEC, workers=1)
    assert files(root) == files(made)


@pytest.mark.parametrize("change", [{"seed": 12}, {"count": 2}, {"fps": 5.0}, {"size": 66}, {"split": "val"}])
def test_a_split_of_another_recipe_is_refused_untouched(made: Path, change: dict) -> None:
    before = files(made)
    with pytest.raises(OptionError, match=next(iter(change))):
        make_split(made, replace(SPEC, **change), workers=1)
    assert files(made) == before


@pytest.mark.parametrize(
    "change",
    [
        {"split": "all"},
        {"count": 0},
        {"min_seconds": 4.0},
        {"max_seconds": 7.0},
        {"size": 65},
        {"size": 62},
        {"fps": 0.5},
        {"fps": 61},
    ],
)
def test_recipes_that_cannot_be_made(change: dict) -> None:
    with pytest.raises(OptionError):
        replace(SPEC, **change)


def test_a_directory_that_is_no_split(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="scenes make"):
        read_clips(tmp_path)


def test_training_reads_what_scenes_writes(made: Path) -> None:
    clips = read_clips(made)
    dense, magqa, grounding = (
        read(made / name)
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


def test_test_files_have_the_fields_of_their_formats(made: Path) -> None:
    magqa, grounding = (json.loads((made / f"{kind}_test.json").read_text()) for kind in ("magqa", "grounding"))
    names = {c["video"] for c in read_clips(made)}
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
    rows = [json.loads(line) for line in (made / "highlights.jsonl").read_text().splitlines()]
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


def showing(scene: Scene, time: float) -> Iterator[SceneObject]:
    """Things whose centre nothing covers, and whose colour is not just changing."""
    for thing in (t for t in scene.objects if t.on_stage(time)):
        x, y = thing.x.at(time), thing.y.at(time)
        nearer = [
            t for t in scene.objects if t.on_stage(time) and t is not thing and t.depth_at(time) > thing.depth_at(time)
        ]
        covered = any(np.hypot(t.x.at(time) - x, t.y.at(time) - y) < 1.2 * t.radius.at(time) for t in nearer)
        turning = any(end - 0.3 <= time < end + 0.05 for end, _ in thing.colours[1:])
        if 0.03 < x < 0.97 and 0.03 < y < 0.97 and not covered and not turning:
            yield thing


def centre(picture: np.ndarray, thing: SceneObject, time: float) -> np.ndarray:
    """Mean colour of the few pixels at the thing's centre."""
    size = len(picture)
    x, y = (int(v.at(time) * size) for v in (thing.x, thing.y))
    return picture[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3).mean(0)


@pytest.mark.parametrize("seed", range(6))
def test_pixels_show_each_thing_in_its_colour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = generate_scene(rng, 12.0)
    look = make_render_style(rng, 96)
    checked = 0
    for time in np.arange(0, 12, 0.5):
        picture = render_frame(scene, look, float(time), 96)
        for thing in showing(scene, float(time)):
            assert nearest(centre(picture, thing, float(time))) == thing.colour_at(float(time))
            checked += 1
    assert checked > 5


def test_what_is_hidden_does_not_show() -> None:
    """Repainting the hidden thing, in a colour there is none like, changes nothing but roundings."""
    found = 0
    for seed in range(200):
        scene = generate_scene(np.random.default_rng(seed), 12.0)
        for thing in scene.objects:
            for start, end in thing.hidden:
                time = start + 0.01
                if not thing.on_stage(time) or end <= time:
                    continue
                look = make_render_style(np.random.default_rng(seed), 96)
                before = render_frame(scene, look, time, 96).astype(int)
                thing.tint = (200, -200, 200)
                assert np.abs(render_frame(scene, look, time, 96) - before).max() <= 1
                found += 1
    assert found > 5


def test_the_video_is_the_plot(made: Path) -> None:
    """Frames read back from the clip show, at their own times, what the first lessons' boxes say is there."""
    right = wrong = 0
    for clip in read_clips(made):
        for frame in open_frames(made / "videos" / clip["video"], SPEC.fps):
            boxes = clip["boxes"][round(frame.time * SPEC.fps)]
            for i, (colour, _, x, y, _) in enumerate(boxes):
                covered = any(np.hypot(x - a, y - b) < 1.2 * r for _, _, a, b, r in boxes[i + 1 :])
                if covered or not (0.1 < x < 0.9 and 0.1 < y < 0.9):
                    continue
                px, py = int(x * 64), int(y * 64)
                shown = nearest(frame.image[py - 1 : py + 2, px - 1 : px + 2].reshape(-1, 3).mean(0))
                right, wrong = right + (shown == colour), wrong + (shown != colour)
    assert right > 50
    assert wrong <= 0.02 * right  # a colour that is just changing


def test_boxes_follow_the_frames(made: Path) -> None:
    for clip in read_clips(made):
        assert len(clip["boxes"]) == round(clip["duration"] * SPEC.fps)
        ends = [e["end"] for e in clip["events"]]
        assert all(b - a >= 0 for a, b in pairwise(ends))


def test_serialised_names_are_those_of_the_files() -> None:
    assert spec_to_dict(SPEC) == {
        "split": "train", "count": 3, "seed": 11, "min_seconds": 8.0, "max_seconds": 9.0, "size": 64, "fps": 4.0, "truth": 2,
    }  # fmt: skip
    event = Event("touch", 1.0, 2.0, "the red star touches the blue cross", "red star", "blue cross")
    assert event_to_dict(event) == {
        "kind": "touch", "start": 1.0, "end": 2.0, "text": "the red star touches the blue cross",
        "subject": "red star", "other": "blue cross",
    }  # fmt: skip
