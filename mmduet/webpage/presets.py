"""What the live page offers to start with: tasks with their questions and settings, and the wording of its controls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A use of the model. ``speak`` overrides the model's recommended speak options by their wire names."""

    name: str
    label: str
    query: str
    hint: str
    speak: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the preset for the page's scripts."""
        names = {"name": self.name, "label": self.label, "query": self.query, "hint": self.hint}
        return {**names, "speak": dict(self.speak)}


PRESETS = (
    Preset("narrate", "Narrate", "Narrate the scene.", "The model comments on every event as it happens."),
    Preset(
        "answer",
        "Tell me when …",
        "Tell me when something touches something.",
        "The model stays silent until the event that you ask for.",
    ),
    Preset(
        "find",
        "Find moments",
        "When is something red in view?",
        "The model stays silent; the relevance curve shows where the answer is.",
        {"policy": "never", "heads": ["relevance"]},
    ),
    Preset(
        "highlights",
        "Highlights",
        "Narrate the scene.",
        "Both scores are added; only what stands out is reported, at most every three seconds.",
        {"heads": ["informative", "relevance"], "value": 1.2, "min_interval": 3.0},
    ),
)

POLICIES = (
    ("When a score passes the threshold (threshold)", "threshold"),
    ("When scores have added up (running sum)", "sum"),
    ("Only when I ask for it (never)", "never"),
)
HEADS = (
    ("Something new to report (informative)", "informative"),
    ("Matters to my question (relevance)", "relevance"),
)
