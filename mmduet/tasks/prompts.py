"""The words that tasks ask in; which of them a model understands is decided here, and nothing else."""

from __future__ import annotations

from mmduet.tasks.base import Own

NARRATE = "Please narrate the video concisely, in real time."
LOCATE = "Find the moments of the video that are about: {query}"


def narration(own: Own) -> str:
    """The model's own query, or else an instruction in the paper's style."""
    return own.query or NARRATE


def location(query: str, own: Own) -> str:
    """What is looked for, in the user's words.

    A model that has a query of its own was taught whole sentences and is asked as its user types; one that has none was
    trained, as the paper's, on queries wrapped in instructions.
    """
    return query if own.query else LOCATE.replace("{query}", query)
