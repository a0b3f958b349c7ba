"""Classify the event at a moment of a clip, its caption, the contents of a query, and whether the event matches the query.

``IGNORE`` stands where a label would be a guess: while nothing goes on, for an event that began before the first frame, and
for what an event does until it has ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from mmduet.duet import IGNORE
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS
from mmduet.scenes.annotations import REPLY_SECONDS
from mmduet.scenes.prompts import KIND_PHRASES
from mmduet.scenes.world import RADII, EventKind

Classes = dict[str, int]  # 0 is always: none of them
Event = dict[str, Any]


def _numbered(names: Sequence[str]) -> Classes:
    return {name: i for i, name in enumerate(names, start=1)}


KINDS: tuple[EventKind, ...] = get_args(EventKind)
NOTHING, GOING_ON, ENDED = 0, 1, 2  # ENDED + number of the kind
PHRASE_CLASS = _numbered(list(KIND_PHRASES))
PLACE_CLASS = _numbered(["left", "right", "top", "bottom", "up", "down"])
SIZE_CLASS = _numbered(list(RADII))
HEADING_CLASS = {"left": 1, "right": 2, "up": 3, "top": 3, "down": 4, "bottom": 4}
OPPOSITE = {1: 2, 2: 1, 3: 4, 4: 3}
QUERY_SLOTS = (COLOUR_CLASS, SHAPE_CLASS, PHRASE_CLASS)  # what a query may name
#: What a caption may tell: subject, the other thing, where to, the colour turned to, the size on entering; and the
#: way that what enters, leaves or moves goes.
CAPTION_SLOTS = (
    COLOUR_CLASS,
    SHAPE_CLASS,
    COLOUR_CLASS,
    SHAPE_CLASS,
    PLACE_CLASS,
    COLOUR_CLASS,
    SIZE_CLASS,
    HEADING_CLASS,
)


def event_stage(events: Sequence[Event], since: float, time: float) -> tuple[int, Event | None]:
    """For someone who watches since ``since`` s: the event, and ``NOTHING``, ``GOING_ON``, or ``ENDED`` + its kind.

    An event has just ended while a reply about it is due. IGNORE for an event that began before ``since``.
    """
    for event in events:
        if event["start"] <= time <= event["end"] + REPLY_SECONDS:
            if event["start"] < since:
                return IGNORE, None
            over = time >= event["end"]
            return (ENDED + KINDS.index(event["kind"]) if over else GOING_ON), event
    return NOTHING, None


def known_caption_classes(stage: int, event: Event | None) -> tuple[int, ...]:
    """Return the known caption classes: subject and heading from the start, all of them once the event has ended."""
    if event is None:
        return (IGNORE,) * len(CAPTION_SLOTS)
    *classes, heading = caption_classes(event)
    known = classes if stage >= ENDED else (*classes[:2], *(IGNORE,) * (len(classes) - 2))
    return (*known, heading or IGNORE)


def caption_classes(event: Event) -> tuple[int, ...]:
    """The classes, in the order of ``TOLD``, of what the event's caption tells."""
    subject, other = event["subject"].split(), (event["other"] or "- -").split()
    words = event["text"].split()
    turned = words[-1] if event["kind"] == "turn" else ""
    found = (*subject, *other, words[-1], turned, words[1])
    classes = tuple(names.get(word, 0) for names, word in zip(CAPTION_SLOTS[:-1], found, strict=True))
    heading = HEADING_CLASS.get(words[-1], 0)
    return (*classes, OPPOSITE.get(heading, 0) if event["kind"] == "enter" else heading)


def query_classes(query: str) -> tuple[int, int, int]:
    """The classes of the colour, the shape and the kind of event that a query names; 0 for each that it does not."""
    text = query.lower()
    colour, shape, phrase = (
        next((c for name, c in classes.items() if re.search(rf"\b{name}\b", text)), 0) for classes in QUERY_SLOTS
    )
    return colour, shape, phrase


def matches_query(stage: int, event: Event | None, named: tuple[int, int, int]) -> int:
    """1 if the event answers a query that names this, 0 if another would; IGNORE where that cannot be known."""
    *thing, phrase = named
    if event is None or not any(named) or (phrase and stage < ENDED):
        return IGNORE
    if phrase:
        return int(event["kind"] in KIND_PHRASES[list(KIND_PHRASES)[phrase - 1]])
    return int(all(asked in (0, done) for asked, done in zip(thing, caption_classes(event)[:2], strict=True)))
