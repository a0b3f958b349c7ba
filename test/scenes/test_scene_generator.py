"""Properties of every generated scene: separate events, unambiguous names, and captions that match what happens."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.scenes.annotations import (
    SETTLE_SECONDS,
    captions,
    grounding_queries,
    highlights,
    negative_query,
    questions,
    reply_deadline,
)
from mmduet.scenes.scene_generator import MIN_DISTANCE, MIN_GAP, generate_scene
from mmduet.scenes.visibility import is_visible, visibility_spans
from mmduet.scenes.world import COLOURS, RADII, SHAPES, Event, Scene, SceneObject, Track

SEEDS = st.integers(0, 10**6)
HUNDRED_SCENES = settings(max_examples=100)


@lru_cache(maxsize=64)
def scene(seed: int, duration: float = 16.0) -> Scene:
    return generate_scene(np.random.default_rng(seed), duration)


def times(of: Scene, step: float = 0.1) -> list[float]:
    return [i * step for i in range(int(of.duration / step))]


def object_named(of: Scene, name: str, time: float) -> SceneObject:
    """Return the only present object named ``name``."""
    (found,) = [t for t in of.objects if t.is_present(time) and t.name_at(time) == name]
    return found


def centre_distance(a: SceneObject, b: SceneObject, time: float) -> float:
    return math.hypot(a.x.at(time) - b.x.at(time), a.y.at(time) - b.y.at(time))


def radius_sum(a: SceneObject, b: SceneObject, time: float) -> float:
    return a.radius.at(time) + b.radius.at(time)


@HUNDRED_SCENES
@given(SEEDS)
def test_events_are_separated_by_the_minimum_gap(seed: int) -> None:
    events = scene(seed).events
    assert events
    assert all(e.start < e.end <= 16.0 for e in events)
    assert all(b.start - a.end >= MIN_GAP - 1e-9 for a, b in itertools.pairwise(events))


@HUNDRED_SCENES
@given(SEEDS)
def test_no_two_present_objects_share_a_name(seed: int) -> None:
    generated = scene(seed)
    for time in times(generated):
        names = [t.name_at(time) for t in generated.objects if t.is_present(time)]
        assert len(names) == len(set(names)) <= 3


@HUNDRED_SCENES
@given(SEEDS)
def test_captions_name_a_present_object_and_its_change(seed: int) -> None:
    generated = scene(seed)
    for e in generated.events:
        obj = object_named(generated, e.subject, e.start)
        moved = [getattr(obj, axis).at(e.end) - getattr(obj, axis).at(e.start) for axis in "xy"]
        if e.kind == "move":
            way = max(
                (abs(moved[0]), "right" if moved[0] > 0 else "left"), (abs(moved[1]), "down" if moved[1] > 0 else "up")
            )[1]
            assert e.text == f"the {e.subject} moves {way}"
        elif e.kind == "turn":
            assert e.text == f"the {e.subject} turns {obj.colour_at(e.end)}"
            assert obj.colour_at(e.end) != obj.colour_at(e.start)
        elif e.kind == "grow":
            assert (obj.radius.at(e.start), obj.radius.at(e.end)) == (RADII["small"], RADII["big"])
        elif e.kind == "shrink":
            assert (obj.radius.at(e.start), obj.radius.at(e.end)) == (RADII["big"], RADII["small"])
        elif e.kind == "enter":
            assert not any(0 <= c <= 1 for c in [outside(obj, e.start)])
            assert is_visible(obj, e.end)
            size = "small" if obj.radius.at(e.start) == RADII["small"] else "big"
            assert e.text == f"a {size} {e.subject} enters from the {side(obj, e.start)}"
        elif e.kind == "leave":
            assert obj.left == e.end
            assert e.text.endswith(f"the {side(obj, e.end)}")
            assert outside(obj, e.end) > 1 or outside(obj, e.end) < 0


def outside(obj: SceneObject, time: float) -> float:
    """Return the coordinate that is farthest from the centre."""
    return max((obj.x.at(time), obj.y.at(time)), key=lambda c: abs(c - 0.5))


def side(obj: SceneObject, time: float) -> str:
    x, y = obj.x.at(time) - 0.5, obj.y.at(time) - 0.5
    return ("left" if x < 0 else "right") if abs(x) > abs(y) else ("top" if y < 0 else "bottom")


@HUNDRED_SCENES
@given(SEEDS)
def test_objects_of_touch_and_hide_events_are_where_the_caption_says(seed: int) -> None:
    generated = scene(seed)
    for e in (e for e in generated.events if e.other is not None):
        one, other = object_named(generated, e.subject, e.start), object_named(generated, e.other or "", e.start)
        if e.kind == "touch":
            assert centre_distance(one, other, e.start) > radius_sum(one, other, e.start) * 0.8 + 0.1
            assert centre_distance(one, other, e.end) == pytest.approx(0.8 * radius_sum(one, other, e.end))
        elif e.kind == "hide":
            assert centre_distance(one, other, e.end) < 1e-9
            assert one.radius.at(e.end) < other.radius.at(e.end)
            assert not is_visible(one, e.end + 0.01)
        else:
            assert centre_distance(one, other, e.start) < 1e-9
            assert centre_distance(one, other, e.end) > radius_sum(one, other, e.end)
            assert not is_visible(one, e.start - 0.01)
            assert is_visible(one, e.end)


def test_a_hiding_object_is_behind_the_other() -> None:
    for seed in range(300):
        generated = generate_scene(np.random.default_rng(seed), 20.0)
        for e in (e for e in generated.events if e.kind == "hide"):
            one, other = object_named(generated, e.subject, e.start), object_named(generated, e.other or "", e.start)
            assert one.depth_at(e.start) < other.depth_at(e.start)
            assert one.depth_at(e.end) < other.depth_at(e.end)


@HUNDRED_SCENES
@given(SEEDS)
def test_objects_without_a_common_event_keep_their_distance(seed: int) -> None:
    generated = scene(seed)
    linked = {
        frozenset(id(object_named(generated, name, e.start)) for name in (e.subject, e.other))
        for e in generated.events
        if e.other
    }
    for i, one in enumerate(generated.objects):
        for other in generated.objects[:i]:
            if frozenset((id(one), id(other))) in linked:
                continue
            for time in times(generated, 0.05):
                if one.is_present(time) and other.is_present(time):
                    assert centre_distance(one, other, time) >= radius_sum(one, other, time) + MIN_DISTANCE - 1e-9


@HUNDRED_SCENES
@given(SEEDS)
def test_nothing_changes_between_events(seed: int) -> None:
    generated = scene(seed)
    for time in times(generated, 0.05):
        if any(e.start <= time <= e.end or e.start <= time + 0.05 <= e.end for e in generated.events):
            continue
        for obj in generated.objects:
            before = [
                obj.x.at(time),
                obj.y.at(time),
                obj.radius.at(time),
                obj.colour_at(time),
                obj.is_present(time),
            ]
            after = [v.at(time + 0.05) for v in (obj.x, obj.y, obj.radius)]
            assert [*after, obj.colour_at(time + 0.05), obj.is_present(time + 0.05)] == before


# Annotations


@HUNDRED_SCENES
@given(SEEDS)
def test_the_middle_of_a_caption_s_timespan_is_just_after_the_event(seed: int) -> None:
    generated = scene(seed)
    written = captions(generated)
    assert [c["text"] for c in written] == [e.text for e in generated.events]
    for c, e in zip(written, generated.events, strict=True):
        start, end = c["timespan"]
        assert start == pytest.approx(e.start, abs=1e-3)
        assert (start + end) / 2 - e.end == pytest.approx(SETTLE_SECONDS, abs=2e-3)
        assert (start + end) / 2 < c["time"] <= end
    for c, following in zip(written, generated.events[1:], strict=False):
        assert c["time"] < following.start  # the reply is due before the next event


@HUNDRED_SCENES
@given(SEEDS)
def test_questions_are_answered_by_matching_events(seed: int) -> None:
    generated = scene(seed)
    expected_answers = {(e.text, reply_deadline(e)) for e in generated.events}
    for question in questions(generated, np.random.default_rng(seed)):
        assert 0 <= question["time"] < generated.duration
        assert question["answers"]
        for answer in question["answers"]:
            assert (answer["content"], answer["time"]) in expected_answers
            assert answer["timespan"][0] >= question["time"] - 1e-3
        text = question["question"].lower()
        subjects = {e.subject for e in generated.events if f"the {e.subject}" in text}
        if subjects:
            (name,) = subjects
            expected = [e.text for e in generated.events if e.subject == name]
            assert [a["content"] for a in question["answers"]] == expected


@HUNDRED_SCENES
@given(SEEDS)
def test_grounding_spans_are_when_the_object_is_visible(seed: int) -> None:
    generated = scene(seed)
    visible = visibility_spans(generated)
    for found in grounding_queries(generated, np.random.default_rng(seed)):
        spans = found["timestamps"]
        assert spans in [[list(s) for s in v] for v in visible.values()]
        assert all(0 <= s < e <= generated.duration and e - s >= 2 - 1e-6 for s, e in spans)
        assert sum(e - s for s, e in spans) <= 0.85 * generated.duration
    nothing = negative_query(generated, np.random.default_rng(seed))
    assert nothing["timestamps"] == []
    assert not any(
        name in nothing["query"].lower()
        for name in visible
        if not name.startswith("something") and name.count(" ") == 2
    )


@given(st.floats(5, 30), st.lists(st.tuples(st.floats(0, 25), st.floats(2, 9)), max_size=3), SEEDS)
def test_highlights_follow_the_format_of_qvhighlights(
    duration: float, raw: list[tuple[float, float]], seed: int
) -> None:
    spans: list[list[float]] = []
    for start, length in sorted(raw):
        if start + length < duration and (not spans or start > spans[-1][1]):
            spans.append([start, start + length])
    row = highlights({"query": "q", "timestamps": spans}, duration, np.random.default_rng(seed))
    if row is None:
        return
    ids, scores = row["relevant_clip_ids"], row["saliency_scores"]
    assert ids == sorted(set(ids))
    assert all(i >= 0 and (i + 1) * 2 <= duration for i in ids)
    assert len(scores) == len(ids)
    assert all(len(clip_scores) == 3 and all(0 <= s <= 4 for s in clip_scores) for clip_scores in scores)
    assert any(4 in clip_scores for clip_scores in scores)
    clips = [i for s, e in row["relevant_windows"] for i in range(int(s) // 2, int(e) // 2)]
    assert clips == ids
    for i in ids:
        assert sum(max(0.0, min(e, 2 * i + 2) - max(s, 2 * i)) for s, e in spans) >= 1.0 - 1e-9


def test_a_track_is_linear_between_its_points() -> None:
    track = Track([0.0], [1.0])
    track.ramp(2.0, 4.0, 3.0)
    assert [track.at(t) for t in (-1, 0, 2, 3, 4, 9)] == [1, 1, 1, 2, 3, 3]


def test_every_kind_of_event_colour_and_shape_occurs() -> None:
    generated_scenes = [scene(seed) for seed in range(60)]
    kinds = {e.kind for generated in generated_scenes for e in generated.events}
    assert kinds == {"enter", "leave", "move", "turn", "grow", "shrink", "touch", "hide", "reveal"}
    assert {t.shape for generated in generated_scenes for t in generated.objects} == set(SHAPES)
    assert {c for generated in generated_scenes for t in generated.objects for _, c in t.colours} == set(COLOURS)


def test_a_scene_depends_only_on_its_seed() -> None:
    def written(seed: int) -> list[Event]:
        return generate_scene(np.random.default_rng(seed), 16.0).events

    assert written(3) == written(3) != written(4)
