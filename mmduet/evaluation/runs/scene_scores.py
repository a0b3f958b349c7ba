"""Score a model on a split of scenes: narration, questions, grounding, highlights and speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmduet.annotations.json_values import Json
from mmduet.annotations.scene_files import read_clips
from mmduet.engine import Engine, recommended_options
from mmduet.engine.session import PreparedFrame
from mmduet.evaluation.runs.scene_queries import prepare_frames, run_queries
from mmduet.events import Query
from mmduet.metrics.reply_matching import MatchCounts, TimedText, compare_replies
from mmduet.metrics.span_overlap import recall_at_1
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.progress import ProgressCallback
from mmduet.spans import Span
from mmduet.tasks.base import StreamResult
from mmduet.tasks.grounding import RELEVANCE_HEADS, best_span
from mmduet.tasks.highlights import clip_saliency, top_clip

VERY_GOOD = 4  # the highest saliency rating


@dataclass(frozen=True)
class SceneScores:
    """The scores of one model on one split.

    All are fractions except ``x_realtime``: seconds of video narrated per second, by a single stream, decoding included.
    """

    speak_f1: float
    speak_precision: float
    speak_recall: float
    caption_exact: float
    repeat_rate: float
    qa_f1: float
    grounding_r1_50: float
    highlight_hit1: float
    x_realtime: float

    def to_dict(self) -> dict[str, float]:
        """Return the scores under their names in JSON files."""
        return {
            "speak_f1": self.speak_f1,
            "speak_precision": self.speak_precision,
            "speak_recall": self.speak_recall,
            "caption_exact": self.caption_exact,
            "repeat_rate": self.repeat_rate,
            "qa_f1": self.qa_f1,
            "grounding_r1_50": self.grounding_r1_50,
            "highlight_hit1": self.highlight_hit1,
            "x_realtime": self.x_realtime,
        }


@dataclass
class _Totals:
    """Intermediate results of the clips so far."""

    narration: MatchCounts = field(default_factory=MatchCounts)
    answers: MatchCounts = field(default_factory=MatchCounts)
    video_seconds: float = 0.0
    wall_seconds: float = 0.0
    predicted_spans: list[Span | None] = field(default_factory=list)
    gold_spans: list[list[Span]] = field(default_factory=list)
    highlight_hits: list[bool] = field(default_factory=list)

    def to_scores(self) -> SceneScores:
        """Compute the scores."""
        hits = self.highlight_hits
        return SceneScores(
            speak_f1=self.narration.f1,
            speak_precision=self.narration.precision,
            speak_recall=self.narration.recall,
            caption_exact=self.narration.exact_share,
            repeat_rate=self.narration.repeat_rate,
            qa_f1=self.answers.f1,
            grounding_r1_50=recall_at_1(self.predicted_spans, self.gold_spans, 0.5),
            highlight_hit1=sum(hits) / len(hits) if hits else 0.0,
            x_realtime=self.video_seconds / self.wall_seconds,
        )


def score_scenes(
    directory: str | Path,
    engine: Engine,
    progress: ProgressCallback | None = None,
    options: SessionOptions | None = None,
) -> SceneScores:
    """Run every clip of a split and compute the scores.

    Args:
        directory: A split made by ``mmduet scenes make``.
        options: Session options (None: those recommended for the model).

    Raises:
        AnnotationError: ``directory`` is not a split.
    """
    root, clips, totals = Path(directory), read_clips(directory), _Totals()
    recommended = engine.model.config.recommended
    options = options or recommended_options(recommended)
    for done, clip in enumerate(clips, start=1):
        started = time.perf_counter()
        frames = prepare_frames(engine, root / "videos" / clip["video"], recommended.fps)
        (narration,) = run_queries(engine, options, frames, [Query(recommended.query)])
        totals.wall_seconds += time.perf_counter() - started
        totals.video_seconds += clip["duration"]
        events = [TimedText(event["end"], event["text"]) for event in clip["events"]]
        totals.narration += compare_replies(events, _timed_replies(narration))
        _score_answers(engine, options, frames, clip, totals)
        _score_grounding(engine, options, frames, clip, totals)
        if progress:
            progress(done, len(clips))
    return totals.to_scores()


def _timed_replies(result: StreamResult) -> list[TimedText]:
    return [TimedText(reply.time, reply.text) for reply in result.replies]


def _score_answers(
    engine: Engine, options: SessionOptions, frames: Sequence[PreparedFrame], clip: Json, totals: _Totals
) -> None:
    questions = clip["questions"]
    queries = [Query(question["question"], question["time"]) for question in questions]
    for question, result in zip(questions, run_queries(engine, options, frames, queries), strict=True):
        expected = [TimedText(answer["end"], answer["content"]) for answer in question["answers"]]
        totals.answers += compare_replies(expected, _timed_replies(result))


def _score_grounding(
    engine: Engine, options: SessionOptions, frames: Sequence[PreparedFrame], clip: Json, totals: _Totals
) -> None:
    """Score the grounding queries of a clip, and highlights for those queries that have ratings."""
    silent = replace(options, speak=SpeakOptions.parse("never"))
    highlights = {highlight["query"]: highlight for highlight in clip["highlights"]}
    groundings = clip["groundings"]
    queries = [Query(grounding["query"]) for grounding in groundings]
    for grounding, result in zip(groundings, run_queries(engine, silent, frames, queries), strict=True):
        times, relevance = result.times, result.mean_scores(RELEVANCE_HEADS)
        totals.predicted_spans.append(best_span(times, relevance))
        totals.gold_spans.append([Span(start, end) for start, end in grounding["timestamps"]])
        if highlight := highlights.get(grounding["query"]):
            clip_id = top_clip(clip_saliency(times, relevance, clip["duration"]))
            ratings = dict(zip(highlight["relevant_clip_ids"], highlight["saliency_scores"], strict=True))
            totals.highlight_hits.append(VERY_GOOD in ratings.get(clip_id, []))
