"""Auxiliary labels against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.events import Query
from mmduet.model.config import DuetConfig, TextShape, VisionShape
from mmduet.recipes.nano.event_labels import (
    ENDED,
    HEADING_CLASS,
    KINDS,
    NO_EVENT,
    ONGOING,
    PHRASE_CLASS,
    PLACE_CLASS,
    caption_classes,
    event_stage,
    query_classes,
)
from mmduet.recipes.nano.frame_labels import IDENTITIES, FrameLabeler
from mmduet.recipes.nano.patch_labels import (
    ALONE,
    BACKWARD,
    BYSTANDER,
    CHANGED,
    FORWARD,
    OTHER,
    SUBJECT,
    TOUCHING,
    UNCHANGED,
)
from mmduet.recipes.nano.patch_labels import STILL as S
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS, label_patches
from mmduet.recipes.nano.scene_description import describe
from mmduet.scenes.prompts import KIND_PHRASES

RED, BLUE = ["red", "circle", 0.125, 0.125, 0.115], ["blue", "square", 0.8, 0.8, 0.19]
RED_CIRCLE = (COLOUR_CLASS["red"], SHAPE_CLASS["circle"])
BLUE_SQUARE = (COLOUR_CLASS["blue"], SHAPE_CLASS["square"])
EVENTS = [
    {
        "kind": "move",
        "start": 1.0,
        "end": 2.0,
        "subject": "red circle",
        "other": None,
        "text": "the red circle moves up",
    },
    {
        "kind": "turn",
        "start": 4.0,
        "end": 4.25,
        "subject": "blue square",
        "other": None,
        "text": "the blue square turns red",
    },
]


#: 4 x 4 patches
CONFIG = DuetConfig("x", VisionShape(32, 4, 8, 8, 1, 1), TextShape(8, 8, 8, 1, 1, 1, 8), pooling_stride=2)


def make_labeler(frames: list[list[list[object]]]) -> FrameLabeler:
    return FrameLabeler([{"video": "v", "boxes": frames, "events": EVENTS}], 4.0, CONFIG)


def test_descriptions_list_visible_objects_from_left_to_right() -> None:
    assert describe([BLUE, RED]) == "a small red circle, a big blue square"
    assert (
        describe([["red", "star", 0.8, 0.8, 0.115], BLUE]) == "a big blue square"
    )  # boxes are ordered far to near, so the star is hidden
    assert describe([BLUE, ["red", "star", 0.8, 0.8, 0.115]]) == "a big blue square, a small red star"
    assert describe([["red", "star", 1.1, 0.5, 0.115]]) == "nothing"
    assert describe([]) == "nothing"


def test_a_patch_has_the_labels_of_the_nearest_object() -> None:
    classes, geometry = label_patches([RED, ["green", "star", 0.125, 0.125, 0.05]], 4)
    assert classes[0].tolist() == [COLOUR_CLASS["green"], SHAPE_CLASS["star"]]
    assert geometry[0] == pytest.approx([0.0, 0.0, 0.25])
    assert classes[1:].sum() == 0


def test_a_small_object_has_at_least_the_patch_that_contains_its_centre() -> None:
    classes, geometry = label_patches([["red", "circle", 0.26, 0.26, 0.05]], 4)
    assert classes.any(1).nonzero()[0].tolist() == [5]
    assert geometry[5] == pytest.approx([(0.26 - 0.375) * 5, (0.26 - 0.375) * 5, 0.25])
    assert not label_patches([["red", "circle", 1.01, 0.5, 0.05]], 4)[0].any()  # its centre is out of view
    covered = [["red", "circle", 0.26, 0.5, 0.1], ["blue", "square", 0.2, 0.5, 0.19]]
    classes, _ = label_patches(covered, 4)
    assert {tuple(c) for c in classes.tolist()} == {(0, 0), tuple(BLUE_SQUARE)}


def test_motion_has_the_direction_since_one_frame_and_since_one_second() -> None:
    frames = [[["red", "circle", x, 0.1, 0.115], BLUE] for x in (0.1, 0.1, 0.2, 0.2, 0.2)]
    motion = make_labeler(frames).labels(Sample("captioning", "v"), np.arange(5) / 4)["motion"]
    assert (motion[0, :, :4] == IGNORE).all()  # the first frame
    assert [tuple(m[0, :2]) for m in motion[1:]] == [(S, S), (FORWARD, S), (S, S), (S, S)]
    assert (motion[:4, :, 2:4] == IGNORE).all()
    assert tuple(motion[4, 0, 2:4]) == (FORWARD, S)
    assert tuple(motion[4, 15]) == (S, S, S, S, ALONE)
    assert (motion[:, 3] == IGNORE).all()  # an empty patch


def test_a_new_object_has_no_direction_and_moving_up_or_left_is_backward() -> None:
    frames = [[], [RED], [["red", "circle", 0.05, 0.05, 0.115]]]
    motion = make_labeler(frames).labels(Sample("captioning", "v"), np.arange(3) / 4)["motion"]
    assert (motion[1, 0, :4] == IGNORE).all()
    assert tuple(motion[2, 0, :2]) == (BACKWARD, BACKWARD)


def test_overlapping_objects_touch() -> None:
    near = ["green", "star", 0.3, 0.125, 0.115]
    motion = make_labeler([[RED, near, BLUE]]).labels(Sample("captioning", "v"), np.array([0.0]))["motion"]
    assert [int(motion[0, cell, 4]) for cell in (0, 1, 15, 2)] == [TOUCHING, TOUCHING, ALONE, IGNORE]


def test_an_event_is_ongoing_then_ended_until_its_reply_is_due() -> None:
    move, turn = ENDED + KINDS.index("move"), ENDED + KINDS.index("turn")
    stages = [event_stage(EVENTS, 0.0, t)[0] for t in (0.9, 1.0, 1.1, 1.9, 2.0, 2.2, 2.75, 2.8)]
    assert stages == [NO_EVENT, ONGOING, ONGOING, ONGOING, move, move, move, NO_EVENT]
    assert event_stage(EVENTS, 0.0, 4.1) == (ONGOING, EVENTS[1])
    assert event_stage(EVENTS, 0.0, 4.5) == (turn, EVENTS[1])


def test_an_event_that_started_before_the_first_frame_has_no_labels() -> None:
    stages = [event_stage(EVENTS, 1.1, t) for t in (1.1, 2.0, 2.8, 4.5)]
    assert stages == [(IGNORE, None), (IGNORE, None), (NO_EVENT, None), (ENDED + KINDS.index("turn"), EVENTS[1])]
    labels = make_labeler([[RED]]).labels(Sample("qa", "v", (Query("Follow the red circle."),)), np.array([1.5, 2.5]))
    assert labels["event_stages"].tolist() == [IGNORE, IGNORE]
    assert set(labels["caption_classes"].flatten().tolist()) == {IGNORE}
    assert labels["matches_query"].tolist() == [IGNORE, IGNORE]


def test_past_contents_are_labelled_where_an_object_has_left() -> None:
    labels = make_labeler([[RED], [], [BLUE]]).labels(Sample("captioning", "v"), np.array([0.0, 0.25, 0.5]))
    assert labels["before"][1][0, :2].tolist() == list(RED_CIRCLE)
    assert labels["before"][2][15, :2].tolist() == [0, 0]


def test_contents_a_second_ago_are_labelled_for_patches_that_are_or_were_occupied() -> None:
    frames = [[RED], [RED], [], [], [BLUE], []]
    second_ago = make_labeler(frames).labels(Sample("captioning", "v"), np.arange(6) / 4)["before"][..., 2:]
    assert (second_ago[:4] == IGNORE).all()
    assert second_ago[4][0].tolist() == second_ago[5][0].tolist() == list(RED_CIRCLE)
    assert second_ago[4][15].tolist() == [0, 0]
    assert (second_ago[5][15] == IGNORE).all()


def test_the_inventory_lists_objects_in_view_now_and_a_second_ago() -> None:
    frames = [[RED], [RED], [RED, BLUE], [BLUE], [BLUE], []]
    inventory = make_labeler(frames).labels(Sample("captioning", "v"), np.arange(6) / 4)["inventory"]
    red, blue = IDENTITIES.index(("red", "circle")), IDENTITIES.index(("blue", "square"))
    assert inventory.shape == (6, 2, 35)
    assert [(int(now[red]), int(now[blue]), int(now.sum())) for now in inventory[:, 0]] == [
        (1, 0, 1), (1, 0, 1), (1, 1, 2), (0, 1, 1), (0, 1, 1), (0, 0, 0),
    ]  # fmt: skip
    assert (inventory[:4, 1] == IGNORE).all()
    assert (inventory[4:, 1] == inventory[:2, 0]).all()


def test_changes_are_labelled_per_patch() -> None:
    moved = ["red", "circle", 0.15, 0.125, 0.115]
    labels = make_labeler([[RED, BLUE], [RED, BLUE], [moved, BLUE]]).labels(
        Sample("captioning", "v"), np.array([0.0, 0.25, 0.5])
    )
    assert set(labels["changes"][0].tolist()) == {IGNORE}  # the first frame
    assert labels["changes"][1][0] == UNCHANGED
    assert labels["changes"][2][0] == CHANGED
    assert labels["changes"][2][15] == UNCHANGED
    assert labels["changes"][2][3] == IGNORE  # empty in both frames
    assert labels["before"][2][0, :2].tolist() == list(RED_CIRCLE)
    assert labels["before"][2][3, :2].tolist() == [IGNORE, IGNORE]
    assert labels["event_stages"].tolist() == [0, 0, 0]
    assert set(labels["caption_classes"].flatten().tolist()) == {IGNORE}


def test_subject_and_heading_are_labelled_during_an_event_and_the_rest_after_it() -> None:
    labels = make_labeler([[RED]]).labels(Sample("captioning", "v"), np.array([0.5, 1.5, 2.5, 4.1, 4.5]))
    unknown = (IGNORE,) * 5
    assert labels["caption_classes"].tolist() == [
        [IGNORE] * 8,
        [*RED_CIRCLE, *unknown, HEADING_CLASS["up"]],
        [*RED_CIRCLE, 0, 0, PLACE_CLASS["up"], 0, 0, HEADING_CLASS["up"]],
        [*BLUE_SQUARE, *unknown, IGNORE],
        [*BLUE_SQUARE, 0, 0, 0, COLOUR_CLASS["red"], 0, IGNORE],
    ]


def test_roles_are_labelled_per_patch() -> None:
    red = ["red", "square", 0.8, 0.8, 0.19]
    frames = [[RED, BLUE]] * 17 + [[RED, red]]
    roles = make_labeler(frames).labels(Sample("captioning", "v"), np.array([0.5, 1.5, 2.5, 4.1, 4.5]))["roles"]
    assert roles[:, [0, 15, 3]].tolist() == [
        [BYSTANDER, BYSTANDER, IGNORE],
        [SUBJECT, BYSTANDER, IGNORE],
        [SUBJECT, BYSTANDER, IGNORE],
        [BYSTANDER, SUBJECT, IGNORE],
        [BYSTANDER, SUBJECT, IGNORE],  # by its new colour
    ]
    unseen = make_labeler(frames).labels(Sample("captioning", "v"), np.array([1.5]))["roles"]
    assert (unseen == IGNORE).all()


def test_the_other_object_has_its_role_once_the_event_has_ended() -> None:
    events = [{**EVENTS[0], "kind": "touch", "other": "blue square", "text": "the red circle touches the blue square"}]
    label_provider = FrameLabeler([{"video": "v", "boxes": [[RED, BLUE]], "events": events}], 4.0, CONFIG)
    roles = label_provider.labels(Sample("captioning", "v"), np.array([0.5, 1.5, 2.5]))["roles"]
    assert roles[:, [0, 15]].tolist() == [[BYSTANDER, BYSTANDER], [SUBJECT, IGNORE], [SUBJECT, OTHER]]


def test_unanswerable_queries_name_absent_kinds_and_similar_subjects() -> None:
    """Absent kinds of event, or subjects that do nothing but share a colour or shape with one that does."""
    rng, labeler = np.random.default_rng(0), make_labeler([[RED, BLUE]])
    named = {query_classes(labeler.unanswerable_query("v", rng)) for _ in range(2000)}
    kinds, subjects = {event["kind"] for event in EVENTS}, {caption_classes(event)[:2] for event in EVENTS}
    phrases = {phrase for phrase, answering in KIND_PHRASES.items() if not kinds & set(answering)}
    assert {phrase for *_, phrase in named if phrase} == {PHRASE_CLASS[phrase] for phrase in phrases}
    objects = {(colour, shape) for colour, shape, phrase in named if not phrase}
    alike = {
        (colour, shape)
        for colour in COLOUR_CLASS.values()
        for shape in SHAPE_CLASS.values()
        if any(colour == c or shape == s for c, s in subjects)
    }
    assert objects == alike - subjects


def test_caption_classes_of_a_touch_and_of_an_entry() -> None:
    touch = {
        "kind": "touch",
        "subject": "red circle",
        "other": "blue square",
        "text": "the red circle touches the blue square",
    }
    enter = {"kind": "enter", "subject": "red circle", "other": None, "text": "a small red circle enters from the left"}
    assert caption_classes(touch) == (*RED_CIRCLE, *BLUE_SQUARE, 0, 0, 0, 0)
    assert caption_classes(enter) == (*RED_CIRCLE, 0, 0, PLACE_CLASS["left"], 0, 1, HEADING_CLASS["right"])


def test_query_classes_name_colour_shape_and_kind() -> None:
    assert query_classes("What does the Red Circle do?") == (*RED_CIRCLE, 0)
    assert query_classes("something red") == (RED_CIRCLE[0], 0, 0)
    assert query_classes("Narrate the scene.") == (0, 0, 0)
    for phrase in KIND_PHRASES:
        assert query_classes(f"Tell me when something {phrase}.") == (0, 0, PHRASE_CLASS[phrase])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("What does the red circle do?", [IGNORE, 1, 1, 0, 0]),
        ("follow the blue square", [IGNORE, 0, 0, 1, 1]),
        ("What does anything blue do?", [IGNORE, 0, 0, 1, 1]),
        ("Tell me when something changes colour.", [IGNORE, IGNORE, 0, IGNORE, 1]),
        ("Tell me when something hides", [IGNORE, IGNORE, 0, IGNORE, 0]),
        ("Tell me everything.", [IGNORE] * 5),
    ],
)
def test_events_match_a_query_once_it_can_be_known(query: str, expected: list[int]) -> None:
    """The times are before, during and after the move, and during and after the turn."""
    times = np.array([0.5, 1.5, 2.5, 4.1, 4.5])
    assert make_labeler([[RED]]).labels(Sample("qa", "v", (Query(query),)), times)["matches_query"].tolist() == expected
    late = make_labeler([[RED]]).labels(Sample("qa", "v", (Query(query, 3.0),)), times)
    assert late["matches_query"].tolist() == [IGNORE] * 3 + expected[3:]
    assert late["query_classes"][0].tolist() == [IGNORE] * 3
    assert late["query_classes"][3].tolist() == list(query_classes(query))
    grounding = make_labeler([[RED]]).labels(Sample("grounding", "v", (Query(query),)), times)
    assert set(grounding["matches_query"].tolist()) == {IGNORE}


@pytest.mark.parametrize(
    ("query", "cells"),
    [
        ("When is a red circle in view?", {0}),
        ("something red", {0}),
        ("A SQUARE", {15}),
        ("a red square", set()),
    ],
)
def test_patches_match_a_query_by_colour_and_shape(query: str, cells: set[int]) -> None:
    matches = make_labeler([[RED, BLUE]]).labels(Sample("grounding", "v", (Query(query),)), np.array([0.0]))[
        "query_matches"
    ]
    assert set(np.flatnonzero(matches[0]).tolist()) == cells


@pytest.mark.parametrize("queries", [(), (Query("Narrate."),), (Query("red?", 2.0),), (Query("red?"), Query("blue?"))])
def test_query_matches_are_ignored_without_one_known_query_about_an_object(queries: tuple[Query, ...]) -> None:
    matches = make_labeler([[RED]]).labels(Sample("qa", "v", queries), np.array([0.0]))["query_matches"]
    assert set(matches.flatten().tolist()) == {IGNORE}
