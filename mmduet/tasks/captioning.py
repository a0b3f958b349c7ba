"""Dense captioning as a task: how a video is watched to be captioned, and the captioned segments that come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mmduet.events import Query
from mmduet.options import Profile, SpeakOptions
from mmduet.tasks.base import Own, Paper, Setting, Watched
from mmduet.tasks.dense_captioning import Segment, paper_segments_of, segments_of
from mmduet.tasks.prompts import narration


@dataclass(frozen=True)
class Captions:
    """What happens in a video, in order of time."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class DenseCaptioning:
    """What happens, and when? ``query`` None: in the model's own words, or else in the paper's."""

    query: str | None = None
    profile: Profile = "fixed"

    name: ClassVar[str] = "dense captioning"
    heads: ClassVar[tuple[str, ...]] = ("informative",)
    paper: ClassVar[Paper] = Paper(0.5, 200, SpeakOptions("sum", 2.0))

    def setting(self, own: Own) -> Setting:
        """The model speaks when it would of itself."""
        return Setting.of(own, self.paper, self.profile, Query(self.query or narration(own)))

    def result(self, watched: Watched) -> Captions:
        """The replies as segments; one without a word captions nothing."""
        told = [(reply.time, reply.text) for reply in watched.replies if reply.text.strip()]
        if self.profile == "paper":
            return Captions(tuple(paper_segments_of(told)))
        informative = [(score.time, score.informative) for score in watched.scores]
        return Captions(tuple(map(watched.within, segments_of(told, informative=informative))))
