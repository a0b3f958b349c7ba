"""What must hold of every plot: one thing at a time, names that fit one thing only, touches that are touches."""

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
from mmduet.scenes.scene_generator import MARGIN, MIN_GAP, generate_scene
from mmduet.scenes.visibility import is_visible, visibility_spans
from mmduet.scenes.world import COLOURS, RADII, SHAPES, Event, Scene, SceneObject, Track

SEEDS = st.integers(0, 10**6)
LIVES = settings(max_examples=100)


@lru_cache(maxsize=64)
def scene(seed: int, duration: float = 16.0) -> Scene:
    return generate_scene(np.random.default_rng(seed), duration)


def times(of: Scene, step: float = 0.1) -> list[float]:
    return [i * step for i in range(int(of.duration / step))]


def called(of: Scene, name: str, time: float) -> SceneObject:
    """The one thing on stage that is called ``name``."""
    (found,) = [t for t in of.objects if t.on_stage(time) and t.name_at(time) == name]
    return found


def apart(a: SceneObject, b: SceneObject, time: float) -> float:
    return math.hypot(a.x.at(time) - b.x.at(time), a.y.at(time) - b.y.at(time))


def reach(a: SceneObject, b: SceneObject, time: float) -> float:
    return a.radius.at(time) + b.radius.at(time)


@LIVES
@given(SEEDS)
def test_events_come_one_after_the_other_with_air_between(seed: int) -> None:
    events = scene(seed).events
    assert events
    assert all(e.start < e.end <= 16.0 for e in events)
    assert all(b.start - a.end >= MIN_GAP - 1e-9 for a, b in itertools.pairwise(events))


@LIVES
@given(SEEDS)
def test_no_two_things_on_stage_share_a_name(seed: int) -> None:
    play = scene(seed)
    for time in times(play):
        names = [t.name_at(time) for t in play.objects if t.on_stage(time)]
        assert len(names) == len(set(names)) <= 3


@LIVES
@given(SEEDS)
def test_captions_name_who_is_there_and_what_becomes_of_it(seed: int) -> None:
    play = scene(seed)
    for e in play.events:
        thing = called(play, e.subject, e.start)
        moved = [getattr(thing, axis).at(e.end) - getattr(thing, axis).at(e.start) for axis in "xy"]
        if e.kind == "move":
            way = max(
                (abs(moved[0]), "right" if moved[0] > 0 else "left"), (abs(moved[1]), "down" if moved[1] > 0 else "up")
            )[1]
            assert e.text == f"the {e.subject} moves {way}"
        elif e.kind == "turn":
            assert e.text == f"the {e.subject} turns {thing.colour_at(e.end)}"
            assert thing.colour_at(e.end) != thing.colour_at(e.start)
        elif e.kind == "grow":
            assert (thing.radius.at(e.start), thing.radius.at(e.end)) == (RADII["small"], RADII["big"])
        elif e.kind == "shrink":
            assert (thing.radius.at(e.start), thing.radius.at(e.end)) == (RADII["big"], RADII["small"])
        elif e.kind == "enter":
            assert not any(0 <= c <= 1 for c in [outside(thing, e.start)])
            assert is_visible(thing, e.end)
            size = "small" if thing.radius.at(e.start) == RADII["small"] else "big"
            assert e.text == f"a {size} {e.subject} enters from the {side(thing, e.start)}"
        elif e.kind == "leave":
            assert thing.left == e.end
            assert e.text.endswith(f"the {side(thing, e.end)}")
            assert outside(thing, e.end) > 1 or outside(thing, e.end) < 0


def outside(thing: SceneObject, time: float) -> float:
    """Its coordinate that lies farthest out."""
    return max((thing.x.at(time), thing.y.at(time)), key=lambda c: abs(c - 0.5))


def side(thing: SceneObject, time: float) -> str:
    x, y = thing.x.at(time) - 0.5, thing.y.at(time) - 0.5
    return ("left" if x < 0 else "right") if abs(x) > abs(y) else ("top" if y < 0 else "bottom")


@LIVES
@given(SEEDS)
def test_touching_and_hiding_are_what_they_say(seed: int) -> None:
    play = scene(seed)
    for e in (e for e in play.events if e.other is not None):
        one, other = called(play, e.subject, e.start), called(play, e.other or "", e.start)
        if e.kind == "touch":
            assert apart(one, other, e.start) > reach(one, other, e.start) * 0.8 + 0.1
            assert apart(one, other, e.end) == pytest.approx(0.8 * reach(one, other, e.end))
            assert [(m, s, begin) for m, s, begin, _ in play.contacts if m is one and s is other and begin == e.end]
        elif e.kind == "hide":
            assert apart(one, other, e.end) < 1e-9
            assert one.radius.at(e.end) < other.radius.at(e.end)
            assert not is_visible(one, e.end + 0.01)
        else:
            assert apart(one, other, e.start) < 1e-9
            assert apart(one, other, e.end) > reach(one, other, e.end)
            assert not is_visible(one, e.start - 0.01)
            assert is_visible(one, e.end)


def test_who_hides_is_behind() -> None:
    for seed in range(300):
        play = generate_scene(np.random.default_rng(seed), 20.0)
        for e in (e for e in play.events if e.kind == "hide"):
            one, other = called(play, e.subject, e.start), called(play, e.other or "", e.start)
            assert one.depth_at(e.start) < other.depth_at(e.start)
            assert one.depth_at(e.end) < other.depth_at(e.end)


@LIVES
@given(SEEDS)
def test_things_that_have_nothing_to_do_with_each_other_keep_clear(seed: int) -> None:
    play = scene(seed)
    linked = {
        frozenset((id(called(play, e.subject, e.start)), id(called(play, e.other, e.start)))) for e in play.events if e.other
    }  # fmt: skip
    for i, one in enumerate(play.objects):
        for other in play.objects[:i]:
            if frozenset((id(one), id(other))) in linked:
                continue
            for time in times(play, 0.05):
                if one.on_stage(time) and other.on_stage(time):
                    assert apart(one, other, time) >= reach(one, other, time) + MARGIN - 1e-9


@LIVES
@given(SEEDS)
def test_between_events_nothing_changes(seed: int) -> None:
    play = scene(seed)
    for time in times(play, 0.05):
        if any(e.start <= time <= e.end or e.start <= time + 0.05 <= e.end for e in play.events):
            continue
        for thing in play.objects:
            before = [
                thing.x.at(time),
                thing.y.at(time),
                thing.radius.at(time),
                thing.colour_at(time),
                thing.on_stage(time),
            ]
            after = [v.at(time + 0.05) for v in (thing.x, thing.y, thing.radius)]
            assert [*after, thing.colour_at(time + 0.05), thing.on_stage(time + 0.05)] == before


# truth


@LIVES
@given(SEEDS)
def test_the_middle_of_a_captions_span_lies_just_after_the_action(seed: int) -> None:
    play = scene(seed)
    told = captions(play)
    assert [c["text"] for c in told] == [e.text for e in play.events]
    for c, e in zip(told, play.events, strict=True):
        start, end = c["timespan"]
        assert start == pytest.approx(e.start, abs=1e-3)
        assert (start + end) / 2 - e.end == pytest.approx(SETTLE_SECONDS, abs=2e-3)
        assert (start + end) / 2 < c["time"] <= end
    for c, following in zip(told, play.events[1:], strict=False):
        assert c["time"] < following.start  # told before anything else happens


@LIVES
@given(SEEDS)
def test_questions_are_answered_by_the_events_they_ask_for(seed: int) -> None:
    play = scene(seed)
    spoken = {(e.text, reply_deadline(e)) for e in play.events}
    for question in questions(play, np.random.default_rng(seed)):
        assert 0 <= question["time"] < play.duration
        assert question["answers"]
        for answer in question["answers"]:
            assert (answer["content"], answer["time"]) in spoken
            assert answer["timespan"][0] >= question["time"] - 1e-3
        asked = question["question"].lower()
        subjects = {e.subject for e in play.events if f"the {e.subject}" in asked}
        if subjects:
            (name,) = subjects
            wanted = [e.text for e in play.events if e.subject == name]
            assert [a["content"] for a in question["answers"]] == wanted


@LIVES
@given(SEEDS)
def test_groundings_are_when_it_can_be_seen(seed: int) -> None:
    play = scene(seed)
    seen = visibility_spans(play)
    for found in grounding_queries(play, np.random.default_rng(seed)):
        spans = found["timestamps"]
        assert spans in [[list(s) for s in v] for v in seen.values()]
        assert all(0 <= s < e <= play.duration and e - s >= 2 - 1e-6 for s, e in spans)
        assert sum(e - s for s, e in spans) <= 0.85 * play.duration
    nothing = negative_query(play, np.random.default_rng(seed))
    assert nothing["timestamps"] == []
    assert not any(
        name in nothing["query"].lower() for name in seen if not name.startswith("something") and name.count(" ") == 2
    )


@given(st.floats(5, 30), st.lists(st.tuples(st.floats(0, 25), st.floats(2, 9)), max_size=3), SEEDS)
def test_highlights_are_as_qvhighlights_has_them(duration: float, raw: list[tuple[float, float]], seed: int) -> None:
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
    assert all(len(three) == 3 and all(0 <= s <= 4 for s in three) for three in scores)
    assert any(4 in three for three in scores)
    clips = [i for s, e in row["relevant_windows"] for i in range(int(s) // 2, int(e) // 2)]
    assert clips == ids
    for i in ids:
        assert sum(max(0.0, min(e, 2 * i + 2) - max(s, 2 * i)) for s, e in spans) >= 1.0 - 1e-9


def test_tracks() -> None:
    track = Track([0.0], [1.0])
    track.ramp(2.0, 4.0, 3.0)
    assert [track.at(t) for t in (-1, 0, 2, 3, 4, 9)] == [1, 1, 1, 2, 3, 3]


def test_every_kind_of_event_every_colour_and_shape_does_occur() -> None:
    plays = [scene(seed) for seed in range(60)]
    kinds = {e.kind for play in plays for e in play.events}
    assert kinds == {"enter", "leave", "move", "turn", "grow", "shrink", "touch", "hide", "reveal"}
    assert {t.shape for play in plays for t in play.objects} == set(SHAPES)
    assert {c for play in plays for t in play.objects for _, c in t.colours} == set(COLOURS)


def test_a_plot_is_its_seed() -> None:
    def told(seed: int) -> list[Event]:
        return generate_scene(np.random.default_rng(seed), 16.0).events

    assert told(3) == told(3) != told(4)
