"""Classify the event at a time of a clip, its caption, what a query names, and whether the event matches the query.

``IGNORE`` marks labels that would be guesses: without an event, for an event that started before the first frame, and for the
outcome of an event that has not ended.
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

Classes = dict[str, int]  # from 1; class 0 means none of the names
Event = dict[str, Any]


def _numbered(names: Sequence[str]) -> Classes:
    return {name: i for i, name in enumerate(names, start=1)}


KINDS: tuple[EventKind, ...] = get_args(EventKind)
NO_EVENT, ONGOING, ENDED = 0, 1, 2  # stages of an event; a stage from ENDED on is ENDED + the index of the event's kind
PHRASE_CLASS = _numbered(list(KIND_PHRASES))
PLACE_CLASS = _numbered(["left", "right", "top", "bottom", "up", "down"])
SIZE_CLASS = _numbered(list(RADII))
HEADING_CLASS = {"left": 1, "right": 2, "up": 3, "top": 3, "down": 4, "bottom": 4}
OPPOSITE = {1: 2, 2: 1, 3: 4, 4: 3}
QUERY_SLOTS = (COLOUR_CLASS, SHAPE_CLASS, PHRASE_CLASS)  # what a query may name: the subject, or a kind of event
#: What a caption may contain: subject, other object, place or direction, new colour, size on entering; and the heading of an
#: object that enters, leaves or moves.
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
    """Return the stage (``NO_EVENT``, ``ONGOING``, ``ENDED`` + kind) and the event at ``time``, for frames from ``since`` on.

    An event counts as ended until a reply about it is due. The stage is IGNORE for an event that started before ``since``.
    """
    for event in events:
        if event["start"] <= time <= event["end"] + REPLY_SECONDS:
            if event["start"] < since:
                return IGNORE, None
            over = time >= event["end"]
            return (ENDED + KINDS.index(event["kind"]) if over else ONGOING), event
    return NO_EVENT, None


def known_caption_classes(stage: int, event: Event | None) -> tuple[int, ...]:
    """Return the known caption classes: subject and heading from the start, all of them once the event has ended."""
    if event is None:
        return (IGNORE,) * len(CAPTION_SLOTS)
    *classes, heading = caption_classes(event)
    known = classes if stage >= ENDED else (*classes[:2], *(IGNORE,) * (len(classes) - 2))
    return (*known, heading or IGNORE)


def caption_classes(event: Event) -> tuple[int, ...]:
    """Return the classes of the event's caption, in the order of ``CAPTION_SLOTS``."""
    subject, other = event["subject"].split(), (event["other"] or "- -").split()
    words = event["text"].split()
    new_colour = words[-1] if event["kind"] == "turn" else ""
    found = (*subject, *other, words[-1], new_colour, words[1])
    classes = tuple(names.get(word, 0) for names, word in zip(CAPTION_SLOTS[:-1], found, strict=True))
    heading = HEADING_CLASS.get(words[-1], 0)
    return (*classes, OPPOSITE.get(heading, 0) if event["kind"] == "enter" else heading)


def query_classes(query: str) -> tuple[int, int, int]:
    """Return the classes of the colour, shape and kind of event that a query names; 0 for those that it does not name."""
    text = query.lower()
    colour, shape, phrase = (
        next((c for name, c in classes.items() if re.search(rf"\b{name}\b", text)), 0) for classes in QUERY_SLOTS
    )
    return colour, shape, phrase


def matches_query(stage: int, event: Event | None, named: tuple[int, int, int]) -> int:
    """Return 1 if the event answers a query that names ``named``, else 0; IGNORE if this cannot be known yet."""
    *identity, phrase = named
    if event is None or not any(named) or (phrase and stage < ENDED):
        return IGNORE
    if phrase:
        return int(event["kind"] in KIND_PHRASES[list(KIND_PHRASES)[phrase - 1]])
    return int(all(name in (0, found) for name, found in zip(identity, caption_classes(event)[:2], strict=True)))
