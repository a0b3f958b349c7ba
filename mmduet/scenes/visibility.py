"""Compute when objects are visible."""

from __future__ import annotations

from collections import defaultdict

from mmduet.scenes.world import Scene, SceneObject
from mmduet.spans import Span

SAMPLE_SECONDS = 0.1  # interval at which the scene is sampled


def is_visible(obj: SceneObject, time: float) -> bool:
    """Return whether the object's centre is in the frame and the object is not completely hidden."""
    if not obj.is_present(time) or any(start <= time < end for start, end in obj.hidden):
        return False
    return 0.0 <= obj.x.at(time) <= 1.0 and 0.0 <= obj.y.at(time) <= 1.0


def visibility_spans(scene: Scene) -> dict[str, list[Span]]:
    """Return the spans of every noun phrase that fits a visible object ("a red circle", "something red", "a star")."""
    times: dict[str, list[float]] = defaultdict(list)
    for step in range(int(scene.duration / SAMPLE_SECONDS) + 1):
        time = step * SAMPLE_SECONDS
        phrases = {p for obj in scene.objects if is_visible(obj, time) for p in noun_phrases(obj, time)}
        for phrase in phrases:
            times[phrase].append(time)
    return {phrase: _merge_samples(samples, scene.duration) for phrase, samples in times.items()}


def noun_phrases(obj: SceneObject, time: float) -> tuple[str, str, str]:
    """Return the three noun phrases that fit the object at ``time``."""
    colour = obj.colour_at(time)
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {obj.shape}", f"something {colour}", f"a {obj.shape}"


def _merge_samples(times: list[float], duration: float) -> list[Span]:
    """Merge consecutive samples into spans. Each sample covers the interval up to the next."""
    spans: list[list[float]] = []
    for time in times:
        if spans and time - spans[-1][1] < SAMPLE_SECONDS / 2:
            spans[-1][1] = time + SAMPLE_SECONDS
        else:
            spans.append([time, time + SAMPLE_SECONDS])
    return [Span(round(start, 3), round(min(end, duration), 3)) for start, end in spans]
