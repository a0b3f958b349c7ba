"""What is true at every frame of a clip, as lesson labels: what changed, who does what, what the query names, is it here.

Labels are NumPy arrays. ``IGNORE`` stands where a label would be a guess: before a query is asked, while nothing goes on,
for an event that began before the first frame, and for what an event does until it has ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mmduet.duet import IGNORE
from mmduet.model.config import DuetConfig
from mmduet.scenes.prompts import KIND_PHRASES
from mmduet.scenes.truth import TELL
from mmduet.scenes.world import RADII, Kind
from mmduet.training import motion
from mmduet.training.collate import Ints, Lessons
from mmduet.training.first_sight import COLOUR_CLASS, SHAPE_CLASS, patch_labels
from mmduet.training.looks import describe, visible
from mmduet.training.samples import Sample

Classes = dict[str, int]  # 0 is always: none of them


def _numbered(names: Sequence[str]) -> Classes:
    return {name: i for i, name in enumerate(names, start=1)}


KINDS: tuple[Kind, ...] = get_args(Kind)
PHRASE_CLASS = _numbered(list(KIND_PHRASES))
PLACE_CLASS = _numbered(["left", "right", "top", "bottom", "up", "down"])
SIZE_CLASS = _numbered(list(RADII))
HEADING_CLASS = {"left": 1, "right": 2, "up": 3, "top": 3, "down": 4, "bottom": 4}
OPPOSITE = {1: 2, 2: 1, 3: 4, 4: 3}
NAMED = (COLOUR_CLASS, SHAPE_CLASS, PHRASE_CLASS)  # what a query may name
BEFORE = (COLOUR_CLASS, SHAPE_CLASS) * 2  # what a cell held a frame ago, and ``AGO`` frames ago
#: What a caption may tell: subject, the other thing, where or whither, the colour turned to, the size on entering; and the
#: way that what enters, leaves or moves goes.
TOLD = (COLOUR_CLASS, SHAPE_CLASS, COLOUR_CLASS, SHAPE_CLASS, PLACE_CLASS, COLOUR_CLASS, SIZE_CLASS, HEADING_CLASS)
#: Which way what a cell holds has gone since a frame ago and since ``AGO`` frames ago, along x and y; whether it touches.
MOTION = (3, 3, 3, 3, 2)
UNCHANGED, CHANGED = 0, 1
BYSTANDER, DOER, OTHER = 0, 1, 2  # what a thing is in an event
IDENTITIES = [(colour, shape) for colour in COLOUR_CLASS for shape in SHAPE_CLASS]
AGO = 4  # frames: as long as the longest events take, at nano's rate
NOTHING, GOING_ON, ENDED = 0, 1, 2  # ENDED + number of the kind
LEAST_CHANGE = 0.05  # of the scaled geometry: a hundredth of the frame's side
Event = dict[str, Any]
Map = tuple[Ints, NDArray[np.float32]]  # of a frame: classes [K, 2], colour and shape, and geometry [K, 3]


class TimeBook:
    """The lessons' labels, from each clip's boxes and events."""

    def __init__(self, clips: Sequence[dict[str, Any]], fps: float, config: DuetConfig) -> None:
        self._clips = {clip["video"]: clip for clip in clips}
        self._fps, self._side = fps, config.pooled_side

    def view(self, video: str, time: float) -> str:
        """What can be seen then, in words."""
        return describe(self._boxes(video, time))

    def _boxes(self, video: str, time: float) -> list[list[Any]]:
        boxes: list[list[list[Any]]] = self._clips[video]["boxes"]
        return boxes[min(round(time * self._fps), len(boxes) - 1)]

    def lessons(self, sample: Sample, times: NDArray[np.float64]) -> Lessons:
        """The labels of a sample whose frames stand at ``times``; the first frame's changes are ignored."""
        boxes = [self._boxes(sample.video, float(t)) for t in times]
        maps = [patch_labels(b, self._side) for b in boxes]
        events = self._clips[sample.video]["events"]
        stages = [happening(events, float(times[0]), float(t)) for t in times]
        named = named_by(sample.queries[0].text if sample.queries else "")
        known = np.array([len(sample.queries) < 2 and all(q.time <= t for q in sample.queries) for t in times])
        wanted = np.array([_wanted(*stage, named) if sample.kind == "qa" else IGNORE for stage in stages])
        return Lessons(
            changes=_changes(maps),
            motion=_motion([m[0] for m in maps], boxes),
            before=np.concatenate([_before(maps, 1), _before(maps, AGO)], axis=-1),
            inventory=_inventories(boxes),
            asked=np.where(known[:, None], _asked(named, np.stack([m[0] for m in maps])), IGNORE),
            happenings=np.array([label for label, _ in stages]),
            roles=np.stack([_roles(*stage, m[0]) for stage, m in zip(stages, maps, strict=True)]),
            told=np.array([_told(*stage) for stage in stages]),
            named=np.where(known[:, None], np.array(named), IGNORE),
            wanted=np.where(known, wanted, IGNORE),
        )


def happening(events: Sequence[Event], since: float, time: float) -> tuple[int, Event | None]:
    """For someone who watches since ``since`` s: the event, and ``NOTHING``, ``GOING_ON``, or ``ENDED`` + its kind.

    An event has just ended for as long as it should be told. IGNORE for one whose beginning was not seen.
    """
    for event in events:
        if event["start"] <= time <= event["end"] + TELL:
            if event["start"] < since:
                return IGNORE, None
            over = time >= event["end"]
            return (ENDED + KINDS.index(event["kind"]) if over else GOING_ON), event
    return NOTHING, None


def _told(stage: int, event: Event | None) -> tuple[int, ...]:
    """What can be told of the event: who does it and the way it goes from the start, everything once it has ended."""
    if event is None:
        return (IGNORE,) * len(TOLD)
    *classes, heading = told(event)
    known = classes if stage >= ENDED else (*classes[:2], *(IGNORE,) * (len(classes) - 2))
    return (*known, heading or IGNORE)


def told(event: Event) -> tuple[int, ...]:
    """The classes, in the order of ``TOLD``, of what the event's caption tells."""
    subject, other = event["subject"].split(), (event["other"] or "- -").split()
    words = event["text"].split()
    turned = words[-1] if event["kind"] == "turn" else ""
    found = (*subject, *other, words[-1], turned, words[1])
    classes = tuple(names.get(word, 0) for names, word in zip(TOLD[:-1], found, strict=True))
    heading = HEADING_CLASS.get(words[-1], 0)
    return (*classes, OPPOSITE.get(heading, 0) if event["kind"] == "enter" else heading)


def _roles(stage: int, event: Event | None, classes: Ints) -> Ints:
    """What the thing in each cell is in the event [K]; ``classes`` are [K, 2].

    IGNORE for an empty cell, for the other thing before the event has ended, and for all if its beginning was not seen.
    """
    if stage == IGNORE:
        return np.full(len(classes), IGNORE)
    roles = np.where(classes[:, 0] > 0, BYSTANDER, IGNORE)
    if event is not None:
        colour, shape, *other, _, turned, _, _ = told(event)
        over = stage >= ENDED
        roles[(classes == other).all(1) & (classes[:, 0] > 0)] = OTHER if over else IGNORE
        roles[(classes == (turned if over and turned else colour, shape)).all(1)] = DOER
    return roles


def named_by(query: str) -> tuple[int, int, int]:
    """The classes of the colour, the shape and the kind of event that a query names; 0 for each that it does not."""
    text = query.lower()
    colour, shape, phrase = (
        next((c for name, c in classes.items() if re.search(rf"\b{name}\b", text)), 0) for classes in NAMED
    )
    return colour, shape, phrase


def _wanted(stage: int, event: Event | None, named: tuple[int, int, int]) -> int:
    """1 if the event answers a query that names this, 0 if another would; IGNORE where that cannot be known."""
    *thing, phrase = named
    if event is None or not any(named) or (phrase and stage < ENDED):
        return IGNORE
    if phrase:
        return int(event["kind"] in KIND_PHRASES[list(KIND_PHRASES)[phrase - 1]])
    return int(all(asked in (0, done) for asked, done in zip(thing, told(event)[:2], strict=True)))


def _asked(named: tuple[int, int, int], classes: Ints) -> Ints:
    """1 where a cell holds what is named by colour, shape or both, 0 elsewhere; ``classes`` is [F, K, 2].

    IGNORE everywhere if no thing is named.
    """
    colour, shape, _ = named
    if not (colour or shape):
        return np.full(classes.shape[:2], IGNORE)
    fits = classes[..., 0] > 0
    if colour:
        fits &= classes[..., 0] == colour
    if shape:
        fits &= classes[..., 1] == shape
    return fits.astype(np.int64)


def _inventories(boxes: Sequence[Sequence[Sequence[Any]]]) -> Ints:
    """[F, 2, 35]: 1 for each identity in view, now and ``AGO`` frames ago (IGNORE where that was not seen)."""
    views = [{(box[0], box[1]) for box in visible(frame)} for frame in boxes]
    now = np.array([[int(identity in view) for identity in IDENTITIES] for view in views])
    ago = np.full_like(now, IGNORE)
    ago[AGO:] = now[: max(0, len(now) - AGO)]
    return np.stack([now, ago], axis=1)


def _changes(maps: Sequence[Map]) -> Ints:
    """UNCHANGED or CHANGED for each cell since the frame before [F, K].

    IGNORE on the first frame, and where nothing is nor was.
    """
    changes = np.full((len(maps), len(maps[0][0])), IGNORE)
    for k in range(1, len(maps)):
        (then, place), (now, new_place) = maps[k - 1], maps[k]
        other = (now != then).any(1) | (np.abs(new_place - place) > LEAST_CHANGE).any(1)
        changes[k] = np.where(_covered(then, now), np.where(other, CHANGED, UNCHANGED), IGNORE)
    return changes


def _before(maps: Sequence[Map], ago: int) -> Ints:
    """What each cell held ``ago`` frames before [F, K, 2]; IGNORE where that was not seen, and where nothing is nor was."""
    before = np.full((len(maps), *maps[0][0].shape), IGNORE)
    for k in range(ago, len(maps)):
        then, now = maps[k - ago][0], maps[k][0]
        before[k] = np.where(_covered(then, now)[:, None], then, IGNORE)
    return before


def _motion(classes: Sequence[Ints], boxes: Sequence[Sequence[Sequence[Any]]]) -> Ints:
    """[F, K, 5], in the order of ``MOTION``."""
    seen = [motion.places(frame, COLOUR_CLASS, SHAPE_CLASS) for frame in boxes]
    steps = [motion.moved(classes, seen, ago) for ago in (1, AGO)]
    return np.concatenate([*steps, motion.touching(classes, seen)[..., None]], axis=-1)


def _covered(then: Ints, now: Ints) -> NDArray[np.bool_]:
    """Cells [K] that hold something or did: most are empty, and would drown the others."""
    covered: NDArray[np.bool_] = (now[:, 0] > 0) | (then[:, 0] > 0)
    return covered
