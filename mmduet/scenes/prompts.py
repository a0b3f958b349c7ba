"""The sentences users of the scenes world say: instructions, questions, grounding queries; pure text, chosen by a generator."""

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
ASK_SUBJECT = (
    "What does the {x} do?",
    "What is the {x} doing?",
    "Tell me what the {x} does.",
    "Watch the {x} and tell me what it does.",
    "Follow the {x}.",
    "What happens to the {x}?",
)
ASK_KIND = (
    "Tell me when something {x}.",
    "Tell me when an object {x}.",
    "Let me know whenever something {x}.",
    "Say so when something {x}.",
)
GROUND = (
    "When is {x} in view?",
    "When can {x} be seen?",
    "Find the moments with {x}.",
    "Show me {x}.",
    "{x} is in the picture.",
    "Locate {x} in the video.",
)
#: What "tell me when something ..." can ask for, and the kinds of event that answer it.
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
    """One of the templates with ``x`` put in; now and then in lower case or without its full stop, as people type."""
    text = templates[int(rng.integers(len(templates)))].format(x=x)
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.3:
        text = text.rstrip(".?")
    return text
