"""Scores a model on a split of scenes: narration, questions, grounding, highlights, speed; runs the engine, has no metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmduet.engine import Engine, recommended_options
from mmduet.engine.session import Picture, Session
from mmduet.events import Output, Query
from mmduet.metrics.spans import recall_at_1
from mmduet.metrics.speaking import Counts, Said, compare
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.scenes import load_clips
from mmduet.tasks.base import Watched
from mmduet.tasks.grounding import RELEVANCE, Span, best_span
from mmduet.tasks.highlights import clip_saliency, top_clip
from mmduet.video import open_frames

VERY_GOOD = 4
Json = dict[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SceneScores:
    """The table. Fractions, but ``x_realtime``: seconds of video narrated per second, one stream, decoding included."""

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
        """Plain JSON values."""
        return asdict(self)


@dataclass
class _Tally:
    narration: Counts = field(default_factory=Counts)
    answers: Counts = field(default_factory=Counts)
    video_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.spans: list[Span | None] = []
        self.gold: list[list[Span]] = []
        self.hits: list[bool] = []


def score_scenes(
    directory: str | Path, engine: Engine, progress: Progress | None = None, options: SessionOptions | None = None
) -> SceneScores:
    """Run every clip of the split, by default as the model recommends, and compute the table.

    Raises ``AnnotationError`` where there is no split.
    """
    root, clips, tally = Path(directory), load_clips(directory), _Tally()
    recommended = engine.model.config.recommended
    options = options or recommended_options(recommended)
    for done, clip in enumerate(clips):
        began = time.perf_counter()
        pictures = [engine.prepare(f) for f in open_frames(root / "videos" / clip["video"], recommended.fps)]
        (narrated,) = watch_each(engine, options, pictures, [Query(recommended.query)])
        tally.wall_seconds += time.perf_counter() - began
        tally.video_seconds += clip["duration"]
        events = [Said(e["end"], e["text"]) for e in clip["events"]]
        tally.narration += compare(events, [Said(r.time, r.text) for r in narrated.replies])
        _answer(engine, options, pictures, clip, tally)
        _ground(engine, options, pictures, clip, tally)
        if progress:
            progress(done + 1, len(clips))
    return _table(tally)


def _answer(engine: Engine, options: SessionOptions, pictures: Sequence[Picture], clip: Json, tally: _Tally) -> None:
    questions = clip["questions"]
    queries = [Query(q["question"], q["time"]) for q in questions]
    for question, watched in zip(questions, watch_each(engine, options, pictures, queries), strict=True):
        wanted = [Said(a["end"], a["content"]) for a in question["answers"]]
        tally.answers += compare(wanted, [Said(r.time, r.text) for r in watched.replies])


def _ground(engine: Engine, options: SessionOptions, pictures: Sequence[Picture], clip: Json, tally: _Tally) -> None:
    silent = replace(options, speak=SpeakOptions.parse("never"))
    highlights = {h["query"]: h for h in clip["highlights"]}
    groundings = clip["groundings"]
    for grounding, watched in zip(
        groundings, watch_each(engine, silent, pictures, [Query(g["query"]) for g in groundings]), strict=True
    ):
        times, relevance = watched.times, watched.curve(RELEVANCE)
        tally.spans.append(best_span(times, relevance))
        tally.gold.append([(s, e) for s, e in grounding["timestamps"]])
        if highlight := highlights.get(grounding["query"]):
            clip_id = top_clip(clip_saliency(times, relevance, clip["duration"]))
            tally.hits.append(
                VERY_GOOD
                in dict(zip(highlight["relevant_clip_ids"], highlight["saliency_scores"], strict=True)).get(clip_id, [])
            )


def watch_each(
    engine: Engine, options: SessionOptions, pictures: Sequence[Picture], queries: Sequence[Query]
) -> list[Watched]:
    """Watch the same pictures once per query, all in the same steps. Raises the error of a session that failed."""
    heard: dict[int, list[Output]] = {}
    for query in queries:
        session: Session = engine.open(options)
        heard[session.id] = []
        if query.text:
            engine.push(session, query)
        for picture in pictures:
            engine.push(session, picture)
        engine.end(session)
    while engine.busy:
        for session, output in engine.step():
            heard[session.id].append(output)
    return [Watched.of(outputs) for outputs in heard.values()]


def _table(tally: _Tally) -> SceneScores:
    narration = tally.narration
    return SceneScores(
        speak_f1=narration.f1,
        speak_precision=narration.precision,
        speak_recall=narration.recall,
        caption_exact=narration.exact_share,
        repeat_rate=narration.repeat_rate,
        qa_f1=tally.answers.f1,
        grounding_r1_50=recall_at_1(tally.spans, tally.gold, 0.5),
        highlight_hit1=sum(tally.hits) / len(tally.hits) if tally.hits else 0.0,
        x_realtime=tally.video_seconds / tally.wall_seconds,
    )
