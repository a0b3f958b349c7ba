"""The lessons beside the duet's losses: their labels against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmduet.duet import IGNORE
from mmduet.events import Query
from mmduet.model.config import DuetConfig, TextShape, VisionShape
from mmduet.training.first_sight import COLOUR_CLASS, SHAPE_CLASS, patch_labels
from mmduet.training.looks import describe
from mmduet.training.samples import Sample
from mmduet.training.second_sight import CHANGED, EMPTY, KINDS, STILL, TimeBook, happening

RED, BLUE = ["red", "circle", 0.125, 0.125, 0.115], ["blue", "square", 0.8, 0.8, 0.19]
EVENTS = [
    {"kind": "move", "start": 1.0, "end": 2.0, "subject": "red circle"},
    {"kind": "turn", "start": 4.0, "end": 4.25, "subject": "blue square"},
]


def book(frames: list[list[list[object]]]) -> TimeBook:
    config = DuetConfig(
        "x", VisionShape(32, 4, 8, 8, 1, 1), TextShape(8, 8, 8, 1, 1, 1, 8), pooling_stride=2
    )  # 4 x 4 cells
    return TimeBook([{"video": "v", "boxes": frames, "events": EVENTS}], 4.0, config)


def test_descriptions_go_from_left_to_right_and_leave_out_what_is_hidden_or_outside() -> None:
    assert describe([BLUE, RED]) == "a small red circle, a big blue square"
    assert describe([["red", "star", 0.8, 0.8, 0.115], BLUE]) == "a big blue square"  # far to near: the star is behind
    assert describe([BLUE, ["red", "star", 0.8, 0.8, 0.115]]) == "a big blue square, a small red star"
    assert describe([["red", "star", 1.1, 0.5, 0.115]]) == "nothing"
    assert describe([]) == "nothing"


def test_patch_labels_name_what_is_nearest_at_each_place() -> None:
    classes, geometry = patch_labels([RED, ["green", "star", 0.125, 0.125, 0.05]], 4)
    assert classes[0].tolist() == [COLOUR_CLASS["green"], SHAPE_CLASS["star"]]
    assert geometry[0] == pytest.approx([0.0, 0.0, 0.25])
    assert classes[1:].sum() == 0


def test_what_goes_on_and_what_has_just_ended() -> None:
    move, turn, ended = 1 + KINDS.index("move"), 1 + KINDS.index("turn"), len(KINDS)
    assert [happening(EVENTS, t)[0] for t in (0.9, 1.0, 1.9, 2.0, 2.65, 2.7)] == [
        0,
        move,
        move,
        move + ended,
        move + ended,
        0,
    ]
    assert happening(EVENTS, 4.1) == (turn, EVENTS[1])


def test_changes_are_seen_cell_by_cell() -> None:
    moved = ["red", "circle", 0.15, 0.125, 0.115]
    labels = book([[RED, BLUE], [RED, BLUE], [moved, BLUE]]).lessons(
        Sample("captioning", "v"), np.array([0.0, 0.25, 0.5])
    )
    assert set(labels.changes[0].tolist()) == {IGNORE}  # nothing came before
    assert labels.changes[1][0] == STILL
    assert labels.changes[2][0] == CHANGED
    assert labels.changes[2][15] == STILL
    assert labels.changes[2][3] == EMPTY
    assert labels.happenings.tolist() == [0, 0, 0]
    assert set(labels.who.flatten().tolist()) == {IGNORE}


def test_who_does_it_is_told_while_it_goes_on_and_just_after() -> None:
    labels = book([[RED]]).lessons(Sample("captioning", "v"), np.array([0.5, 1.5, 2.5, 4.0]))
    red_circle = [COLOUR_CLASS["red"], SHAPE_CLASS["circle"]]
    blue_square = [COLOUR_CLASS["blue"], SHAPE_CLASS["square"]]
    assert labels.who.tolist() == [[IGNORE, IGNORE], red_circle, red_circle, blue_square]


@pytest.mark.parametrize(
    ("query", "cells"),
    [
        ("When is a red circle in view?", {0}),
        ("something red", {0}),
        ("A SQUARE", {15}),
        ("a red square", set()),
    ],
)
def test_what_is_asked_for_is_found(query: str, cells: set[int]) -> None:
    asked = book([[RED, BLUE]]).lessons(Sample("grounding", "v", (Query(query),)), np.array([0.0])).asked
    assert set(np.flatnonzero(asked[0]).tolist()) == cells


@pytest.mark.parametrize("queries", [(), (Query("Narrate."),), (Query("red?", 2.0),), (Query("red?"), Query("blue?"))])
def test_what_cannot_be_pointed_at_is_not_taught(queries: tuple[Query, ...]) -> None:
    asked = book([[RED]]).lessons(Sample("qa", "v", queries), np.array([0.0])).asked
    assert set(asked.flatten().tolist()) == {IGNORE}
