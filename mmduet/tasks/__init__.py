"""Tasks that derive captions, spans, highlights and answers from scores and replies; on any stream, without torch."""

from mmduet.tasks.base import ModelDefaults, RunConfig, StreamResult, Task, TaskResult
from mmduet.tasks.dense_captioning import Captions, DenseCaptioning
from mmduet.tasks.grounding import GroundingResult, TemporalGrounding
from mmduet.tasks.highlights import HighlightDetection, Highlights
from mmduet.tasks.online_grounding import OnlineGrounding, OnlineGroundingResult, OnlineSpan
from mmduet.tasks.question_answering import Answer, Answers, QuestionAnswering
from mmduet.tasks.streaming import Stream, feed, merge_by_time, run_stream, run_task

__all__ = [
    "Answer",
    "Answers",
    "Captions",
    "DenseCaptioning",
    "GroundingResult",
    "HighlightDetection",
    "Highlights",
    "ModelDefaults",
    "OnlineGrounding",
    "OnlineGroundingResult",
    "OnlineSpan",
    "QuestionAnswering",
    "RunConfig",
    "Stream",
    "StreamResult",
    "Task",
    "TaskResult",
    "TemporalGrounding",
    "feed",
    "merge_by_time",
    "run_stream",
    "run_task",
]
