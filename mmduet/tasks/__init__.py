"""What scores and replies mean for a task: captions, spans, highlights, answers; runs on a stream, here or remote; no torch."""

from mmduet.tasks.answering import Answer, Answers, QuestionAnswering
from mmduet.tasks.base import Own, Setting, Stream, Task, Watched, run, watch
from mmduet.tasks.captioning import Captions, DenseCaptioning
from mmduet.tasks.dense_captioning import Segment
from mmduet.tasks.grounding import Grounded, ScoredSpan, TemporalGrounding
from mmduet.tasks.highlights import Highlight, HighlightDetection, Highlights
from mmduet.tasks.online_grounding import OnlineGrounded, OnlineGrounding, OnlineSpan

__all__ = [
    "Answer",
    "Answers",
    "Captions",
    "DenseCaptioning",
    "Grounded",
    "Highlight",
    "HighlightDetection",
    "Highlights",
    "OnlineGrounded",
    "OnlineGrounding",
    "OnlineSpan",
    "Own",
    "QuestionAnswering",
    "ScoredSpan",
    "Segment",
    "Setting",
    "Stream",
    "Task",
    "TemporalGrounding",
    "Watched",
    "run",
    "watch",
]
