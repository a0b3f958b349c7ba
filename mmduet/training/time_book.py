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
NAMED = (COLOUR_CLASS, SHAPE_CLASS, PHRASE_CLASS)  # what a query may name
THING = (COLOUR_CLASS, SHAPE_CLASS)
#: What a caption may tell: subject, the other thing, where or whither, the colour turned to, the size on entering.
TOLD = (COLOUR_CLASS, SHAPE_CLASS, COLOUR_CLASS, SHAPE_CLASS, PLACE_CLASS, COLOUR_CLASS, SIZE_CLASS)
STILL, CHANGED = 0, 1
IDENTITIES = [(colour, shape) for colour in COLOUR_CLASS for shape in SHAPE_CLASS]
AGO = 4  # frames: as long as the longest events take, at nano's rate
NOTHING, GOING_ON, ENDED = 0, 1, 2  # ENDED + number of the kind
LEAST_CHANGE = 0.05  # of the scaled geometry: a hundredth of the frame's side
Event = dict[str, Any]


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
        changes, before = _since_last(maps)
        events = self._clips[sample.video]["events"]
        stages = [happening(events, float(times[0]), float(t)) for t in times]
        named = named_by(sample.queries[0].text if sample.queries else "")
        known = np.array([len(sample.queries) < 2 and all(q.time <= t for q in sample.queries) for t in times])
        wanted = np.array([_wanted(*stage, named) if sample.kind == "qa" else IGNORE for stage in stages])
        return Lessons(
            changes=changes,
            before=before,
            inventory=_inventories(boxes),
            asked=np.where(known[:, None], _asked(named, np.stack([m[0] for m in maps])), IGNORE),
            happenings=np.array([label for label, _ in stages]),
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
    """What can be told of the event: who does it while it goes on, everything once it has ended."""
    if event is None:
        return (IGNORE,) * len(TOLD)
    classes = told(event)
    return classes if stage >= ENDED else (*classes[:2], *(IGNORE,) * (len(TOLD) - 2))


def told(event: Event) -> tuple[int, ...]:
    """The classes, in the order of ``TOLD``, of what the event's caption tells."""
    subject, other = event["subject"].split(), (event["other"] or "- -").split()
    words = event["text"].split()
    turned = words[-1] if event["kind"] == "turn" else ""
    found = (*subject, *other, words[-1], turned, words[1])
    return tuple(classes.get(word, 0) for classes, word in zip(TOLD, found, strict=True))


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


def _since_last(maps: Sequence[tuple[Ints, NDArray[np.float32]]]) -> tuple[Ints, Ints]:
    """Whether each cell has changed since the frame before [F, K], and what it held then [F, K, 2].

    IGNORE on the first frame, and where nothing is nor was: most cells are empty, and would drown the others.
    """
    cells = len(maps[0][0])
    changes, before = np.full((len(maps), cells), IGNORE), np.full((len(maps), cells, 2), IGNORE)
    for k in range(1, len(maps)):
        changes[k] = _changes(maps[k - 1], maps[k])
        before[k] = np.where((changes[k] != IGNORE)[:, None], maps[k - 1][0], IGNORE)
    return changes, before


def _changes(before: tuple[Ints, NDArray[np.float32]], now: tuple[Ints, NDArray[np.float32]]) -> Ints:
    """STILL or CHANGED for each cell [K]; IGNORE where nothing is nor was."""
    covered = (now[0][:, 0] > 0) | (before[0][:, 0] > 0)
    other = (now[0] != before[0]).any(1) | (np.abs(now[1] - before[1]) > LEAST_CHANGE).any(1)
    return np.where(covered, np.where(other, CHANGED, STILL), IGNORE)
