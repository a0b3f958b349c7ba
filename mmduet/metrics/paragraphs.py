"""Join all captions of a video into a paragraph: the ``Para_`` metrics of TimeChat and MMDuet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmduet.metrics.captions import Candidate

NOT_LETTERS = re.compile("[^a-z]+")


def paragraph_candidates(
    predicted: Mapping[str, Sequence[str]], events: Mapping[str, Sequence[Sequence[str]]]
) -> list[Candidate]:
    """Return one candidate per video of ``events``; a video without prediction has an empty paragraph.

    ``predicted`` holds untokenized captions by video, in the order of time; ``events`` the same, one list per reference set.
    """
    return [
        Candidate(_to_letters(predicted.get(video, ())), tuple(_to_letters(captions) for captions in sets))
        for video, sets in events.items()
    ]


def shifted_paragraph_candidates(
    predicted: Mapping[str, Sequence[str]], events: Mapping[str, Sequence[Sequence[str]]]
) -> list[Candidate]:
    """Pair paragraphs by position, as TimeChat and MMDuet do: a missing video shifts all later pairs."""
    paragraphs = [_to_letters(predicted[video]) for video in events if video in predicted]
    references = [tuple(_to_letters(captions) for captions in sets) for sets in events.values()]
    return [Candidate(*pair) for pair in zip(paragraphs, references, strict=False)]


def _to_letters(captions: Sequence[str]) -> str:
    """Return lower-case letters and single spaces, which is the metric's only tokenization."""
    return NOT_LETTERS.sub(" ", " ".join(captions).lower()).strip()
