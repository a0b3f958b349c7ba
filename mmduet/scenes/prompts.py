"""The user's prompts for scenes: instructions, questions and grounding queries, filled at random."""

from __future__ import annotations

import numpy as np

from mmduet.scenes.world import EventKind

NARRATION_PROMPTS = (
    "Narrate the scene.",
    "Describe what happens as it happens.",
    "Tell me everything that happens.",
    "What is happening in the video?",
    "Comment on the video live.",
    "Please caption every event.",
)
VIEW_QUESTIONS = (
    "What do you see?",
    "What is in view?",
    "What is there now?",
)
SUBJECT_QUESTIONS = (
    "What does the {x} do?",
    "What is the {x} doing?",
    "Tell me what the {x} does.",
    "Watch the {x} and tell me what it does.",
    "Follow the {x}.",
    "What happens to the {x}?",
)
KIND_QUESTIONS = (
    "Tell me when something {x}.",
    "Tell me when an object {x}.",
    "Let me know whenever something {x}.",
    "Say so when something {x}.",
)
GROUNDING_QUERIES = (
    "When is {x} in view?",
    "When can {x} be seen?",
    "Find the moments with {x}.",
    "Show me {x}.",
    "{x} is in the picture.",
    "Locate {x} in the video.",
)
#: Phrases after "Tell me when something ...", and the kinds of event that answer them.
KIND_PHRASES: dict[str, tuple[EventKind, ...]] = {
    "enters": ("enter",),
    "leaves": ("leave",),
    "moves": ("move",),
    "changes colour": ("turn",),
    "changes size": ("grow", "shrink"),
    "touches something": ("touch",),
    "hides": ("hide",),
}


def fill_template(rng: np.random.Generator, templates: tuple[str, ...], x: str = "") -> str:
    """Return a random template filled with ``x``, sometimes in lower case or without its final punctuation."""
    text = templates[int(rng.integers(len(templates)))].format(x=x)
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.3:
        text = text.rstrip(".?")
    return text
