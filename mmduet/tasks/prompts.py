"""Texts of the queries that tasks send; they depend on the queries that the model was trained on."""

from __future__ import annotations

from mmduet.tasks.base import ModelDefaults

NARRATION_QUERY = "Please narrate the video concisely, in real time."
GROUNDING_TEMPLATE = "Find the moments of the video that are about: {query}"


def narration_query(defaults: ModelDefaults) -> str:
    """Return the model's own query, or else an instruction in the paper's style."""
    return defaults.query or NARRATION_QUERY


def grounding_query(query: str, defaults: ModelDefaults) -> str:
    """Return the query for finding what ``query`` describes.

    A model with a query of its own was trained on plain sentences and receives ``query`` as it is. A model without one was
    trained, like the paper's, on queries wrapped in instructions.
    """
    return query if defaults.query else GROUNDING_TEMPLATE.replace("{query}", query)
