"""Annotate one clip in the benchmarks' formats: dense captioning, MAGQA, grounding, highlights; plain JSON values.

A caption's ``timespan`` holds the action and the moment after it at which it can first be reported with certainty: the format's
labels are positive from the middle of the span to the reply, and the middle lies just after the action's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmduet.scenes import prompts
from mmduet.scenes.prompts import fill_template
from mmduet.scenes.visibility import Span, visibility_spans
from mmduet.scenes.world import COLOURS, SHAPES, Event, Scene

VERSION = 2  # raised whenever the same plot gets other annotations, so that the two are never mixed
SETTLE_SECONDS = (
    0.2  # seconds after an action's end from which it can be reported; right at its end it is still uncertain
)
REPLY_SECONDS = 0.75  # seconds after an action's end by which a reply is due
CLIP_SECONDS = 2.0  # QVHighlights
Json = dict[str, Any]


def timespan(event: Event) -> tuple[float, float]:
    """The span whose middle lies ``SETTLE`` after the event's end."""
    return round(event.start, 3), round(event.end + (event.end - event.start) + 2 * SETTLE_SECONDS, 3)


def reply_deadline(event: Event) -> float:
    """Return the latest time for a reply about the event."""
    return round(min(event.end + REPLY_SECONDS, timespan(event)[1]), 3)


def captions(scene: Scene) -> list[Json]:
    """Dense captioning: every event, in order."""
    return [{"time": reply_deadline(e), "text": e.text, "timespan": list(timespan(e))} for e in scene.events]


def questions(scene: Scene, rng: np.random.Generator) -> list[Json]:
    """Up to three multi-answer questions, each with the events that answer it; the last may be asked late."""
    found = []
    subjects = [str(s) for s in rng.permutation(sorted({e.subject for e in scene.events}))]
    for subject in subjects[:2]:
        events = [e for e in scene.events if e.subject == subject]
        late = max(0.0, events[0].start - float(rng.uniform(0.5, 3.0))) if rng.random() < 0.5 else 0.0
        found.append(_question(fill_template(rng, prompts.ASK_SUBJECT, subject), late, events))
    phrases = [p for p, kinds in prompts.KIND_PHRASES.items() if any(e.kind in kinds for e in scene.events)]
    if phrases:
        phrase = phrases[int(rng.integers(len(phrases)))]
        events = [e for e in scene.events if e.kind in prompts.KIND_PHRASES[phrase]]
        found.append(_question(fill_template(rng, prompts.ASK_KIND, phrase), 0.0, events))
    return found


def _question(text: str, time: float, events: list[Event]) -> Json:
    answers = [
        {"content": e.text, "time": reply_deadline(e), "timespan": list(timespan(e)), "end": round(e.end, 3)}
        for e in events
        if e.start >= time
    ]
    return {"question": text, "time": round(time, 3), "answers": answers}


def grounding_queries(scene: Scene, rng: np.random.Generator, count: int = 3) -> list[Json]:
    """Queries about what can be seen, with spans of at least two seconds that leave some of the clip out."""
    fitting = {name: spans for name, spans in visibility_spans(scene).items() if _groundable(spans, scene.duration)}
    names = [str(n) for n in rng.permutation(sorted(fitting))][:count]
    return [
        {"query": fill_template(rng, prompts.GROUND, n), "timestamps": [list(s) for s in fitting[n]]} for n in names
    ]


def negative_query(scene: Scene, rng: np.random.Generator) -> Json:
    """A query about something that never comes into view: training needs it, tests do not ask it."""
    seen = visibility_spans(scene)
    while True:
        colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))
        name = f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"
        if name not in seen:
            return {"query": fill_template(rng, prompts.GROUND, name), "timestamps": []}


def _groundable(spans: list[Span], duration: float) -> bool:
    covered = sum(end - start for start, end in spans)
    return all(end - start >= 2.0 for start, end in spans) and covered <= 0.85 * duration


def highlights(grounding: Json, duration: float, rng: np.random.Generator) -> Json | None:
    """The query as QVHighlights has it: 2 s clips, three annotators 0..4; None where no clip is wholly relevant."""
    spans: list[list[float]] = grounding["timestamps"]
    clips, scores = [], []
    for clip in range(int(duration / CLIP_SECONDS)):
        start = clip * CLIP_SECONDS
        share = sum(max(0.0, min(e, start + CLIP_SECONDS) - max(s, start)) for s, e in spans) / CLIP_SECONDS
        if share < 0.5:
            continue
        best = 4 if share > 0.99 else 3 if share > 0.75 else 2
        doubts = rng.permutation([0, int(rng.integers(0, 2)), int(rng.integers(0, 2))])
        clips.append(clip)
        scores.append([best - int(d) for d in doubts])
    if not any(4 in three for three in scores):
        return None
    windows = [[clip * CLIP_SECONDS, (clip + 1) * CLIP_SECONDS] for clip in clips]
    return {
        "query": grounding["query"],
        "duration": duration,
        "relevant_clip_ids": clips,
        "saliency_scores": scores,
        "relevant_windows": _joined(windows),
    }


def _joined(windows: list[list[float]]) -> list[list[float]]:
    joined: list[list[float]] = []
    for start, end in windows:
        if joined and joined[-1][1] == start:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return joined
