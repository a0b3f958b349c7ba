"""All captions of a video as one paragraph, against all its events as another: the ``Para_`` metrics of TimeChat and MMDuet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmduet.metrics.captions import Candidate

NOT_LETTERS = re.compile("[^a-z]+")


def paragraph_candidates(
    predicted: Mapping[str, Sequence[str]], events: Mapping[str, Sequence[Sequence[str]]]
) -> list[Candidate]:
    """One candidate for each video of ``events``; no prediction is the empty paragraph.

    ``predicted`` are captions by video, in the order of time, untokenised; ``events`` the same, one list a reference set.
    """
    return [
        Candidate(_plain(predicted.get(video, ())), tuple(_plain(captions) for captions in sets))
        for video, sets in events.items()
    ]


def shifted_paragraph_candidates(
    predicted: Mapping[str, Sequence[str]], events: Mapping[str, Sequence[Sequence[str]]]
) -> list[Candidate]:
    """As TimeChat and MMDuet pair them, by place: a missing video shifts all later ones, and the last are left without."""
    told = [_plain(predicted[video]) for video in events if video in predicted]
    wanted = [tuple(_plain(captions) for captions in sets) for sets in events.values()]
    return [Candidate(caption, references) for caption, references in zip(told, wanted, strict=False)]


def _plain(captions: Sequence[str]) -> str:
    """Letters and single spaces; the metric has no other tokeniser."""
    return NOT_LETTERS.sub(" ", " ".join(captions).lower()).strip()
