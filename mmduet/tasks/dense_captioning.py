"""Dense captioning: what happens in a video, and from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mmduet.events import Query
from mmduet.options import Profile, SpeakOptions
from mmduet.spans import CaptionedSpan
from mmduet.tasks.base import ModelDefaults, PaperConfig, RunConfig, StreamResult
from mmduet.tasks.prompts import narration_query
from mmduet.tasks.segments import paper_segments_from_replies, segments_from_replies


@dataclass(frozen=True)
class Captions:
    """The captioned segments of a video, in order of time."""

    segments: tuple[CaptionedSpan, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        return {
            "segments": [
                {"start": segment.start, "end": segment.end, "caption": segment.caption} for segment in self.segments
            ]
        }


@dataclass(frozen=True)
class DenseCaptioning:
    """Caption everything that happens; ``query`` None uses the model's own query, or else the paper's."""

    query: str | None = None
    profile: Profile = "fixed"

    name: ClassVar[str] = "dense captioning"
    heads: ClassVar[tuple[str, ...]] = ("informative",)
    paper: ClassVar[PaperConfig] = PaperConfig(0.5, 200, SpeakOptions("sum", 2.0))

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return a configuration in which the model speaks by its own policy."""
        query = Query(self.query or narration_query(defaults))
        return RunConfig.from_defaults(defaults, self.paper, self.profile, query)

    def result(self, stream: StreamResult) -> Captions:
        """Return the replies as segments; replies without words are dropped."""
        replies = [(reply.time, reply.text) for reply in stream.replies if reply.text.strip()]
        if self.profile == "paper":
            return Captions(tuple(paper_segments_from_replies(replies)))
        informative = [(score.time, score.informative) for score in stream.scores]
        segments = segments_from_replies(replies, informative=informative)
        return Captions(
            tuple(segment._replace(end=stream.clip_end(segment.start, segment.end)) for segment in segments)
        )
