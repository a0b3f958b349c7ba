"""Annotate a clip in the benchmarks' formats, as JSON values: dense captioning, MAGQA, grounding, highlights.

The labels of the dense captioning format are positive from the middle of a caption's ``timespan`` to the reply. The timespan
of an event is therefore extended so that its middle lies just after the event's end, when it can be reported with certainty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmduet.scenes import prompts
from mmduet.scenes.prompts import fill_template
from mmduet.scenes.visibility import visibility_spans
from mmduet.scenes.world import COLOURS, SHAPES, Event, Scene
from mmduet.spans import Span

ANNOTATION_VERSION = 2  # increased whenever the annotations of a scene change, so that versions are never mixed
SETTLE_SECONDS = 0.2  # after an event's end, when it can be reported with certainty
REPLY_SECONDS = 0.75  # after an event's end, by when a reply is due
HIGHLIGHT_SECONDS = 2.0  # duration of QVHighlights' clips
Json = dict[str, Any]


def timespan(event: Event) -> Span:
    """Return the span that starts with the event and whose middle is ``SETTLE_SECONDS`` after the event's end."""
    return Span(round(event.start, 3), round(event.end + (event.end - event.start) + 2 * SETTLE_SECONDS, 3))


def reply_deadline(event: Event) -> float:
    """Return the latest time for a reply about the event."""
    return round(min(event.end + REPLY_SECONDS, timespan(event)[1]), 3)


def captions(scene: Scene) -> list[Json]:
    """Return the captions of all events, in order."""
    return [{"time": reply_deadline(e), "text": e.text, "timespan": list(timespan(e))} for e in scene.events]


def questions(scene: Scene, rng: np.random.Generator) -> list[Json]:
    """Return up to three questions, each with the events that answer it; questions about a subject may be asked late."""
    found = []
    subjects = [str(s) for s in rng.permutation(sorted({e.subject for e in scene.events}))]
    for subject in subjects[:2]:
        events = [e for e in scene.events if e.subject == subject]
        late = max(0.0, events[0].start - float(rng.uniform(0.5, 3.0))) if rng.random() < 0.5 else 0.0
        found.append(_question(fill_template(rng, prompts.SUBJECT_QUESTIONS, subject), late, events))
    phrases = [p for p, kinds in prompts.KIND_PHRASES.items() if any(e.kind in kinds for e in scene.events)]
    if phrases:
        phrase = phrases[int(rng.integers(len(phrases)))]
        events = [e for e in scene.events if e.kind in prompts.KIND_PHRASES[phrase]]
        found.append(_question(fill_template(rng, prompts.KIND_QUESTIONS, phrase), 0.0, events))
    return found


def _question(text: str, time: float, events: list[Event]) -> Json:
    answers = [
        {"content": e.text, "time": reply_deadline(e), "timespan": list(timespan(e)), "end": round(e.end, 3)}
        for e in events
        if e.start >= time
    ]
    return {"question": text, "time": round(time, 3), "answers": answers}


def grounding_queries(scene: Scene, rng: np.random.Generator, count: int = 3) -> list[Json]:
    """Return queries about visible objects, with spans of at least two seconds that do not cover the whole clip."""
    fitting = {name: spans for name, spans in visibility_spans(scene).items() if _groundable(spans, scene.duration)}
    names = [str(n) for n in rng.permutation(sorted(fitting))][:count]
    return [
        {"query": fill_template(rng, prompts.GROUNDING_QUERIES, n), "timestamps": [list(s) for s in fitting[n]]}
        for n in names
    ]


def negative_query(scene: Scene, rng: np.random.Generator) -> Json:
    """Return a query about an object that never appears; it is used for training only."""
    visible = visibility_spans(scene)
    while True:
        colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))
        name = f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"
        if name not in visible:
            return {"query": fill_template(rng, prompts.GROUNDING_QUERIES, name), "timestamps": []}


def _groundable(spans: list[Span], duration: float) -> bool:
    covered = sum(end - start for start, end in spans)
    return all(end - start >= 2.0 for start, end in spans) and covered <= 0.85 * duration


def highlights(grounding: Json, duration: float, rng: np.random.Generator) -> Json | None:
    """Return a grounding query in QVHighlights' format: 2 s clips, scores 0 to 4 of three annotators.

    None if no clip is completely relevant.
    """
    spans: list[list[float]] = grounding["timestamps"]
    clips, scores = [], []
    for clip in range(int(duration / HIGHLIGHT_SECONDS)):
        start = clip * HIGHLIGHT_SECONDS
        share = sum(max(0.0, min(e, start + HIGHLIGHT_SECONDS) - max(s, start)) for s, e in spans) / HIGHLIGHT_SECONDS
        if share < 0.5:
            continue
        top_score = 4 if share > 0.99 else 3 if share > 0.75 else 2
        doubts = rng.permutation([0, int(rng.integers(0, 2)), int(rng.integers(0, 2))])
        clips.append(clip)
        scores.append([top_score - int(d) for d in doubts])
    if not any(4 in clip_scores for clip_scores in scores):
        return None
    windows = [[clip * HIGHLIGHT_SECONDS, (clip + 1) * HIGHLIGHT_SECONDS] for clip in clips]
    return {
        "query": grounding["query"],
        "duration": duration,
        "relevant_clip_ids": clips,
        "saliency_scores": scores,
        "relevant_windows": _merge_adjacent(windows),
    }


def _merge_adjacent(windows: list[list[float]]) -> list[list[float]]:
    merged: list[list[float]] = []
    for start, end in windows:
        if merged and merged[-1][1] == start:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return merged
