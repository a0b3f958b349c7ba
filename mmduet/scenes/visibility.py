"""Compute when objects are visible, as spans in seconds."""

from __future__ import annotations

from collections import defaultdict

from mmduet.scenes.world import Scene, SceneObject

Span = tuple[float, float]
STEP = 0.1  # seconds between looks at the stage


def is_visible(thing: SceneObject, time: float) -> bool:
    """Whether the thing's centre is in the picture and not wholly behind another thing."""
    if not thing.on_stage(time) or any(start <= time < end for start, end in thing.hidden):
        return False
    return 0.0 <= thing.x.at(time) <= 1.0 and 0.0 <= thing.y.at(time) <= 1.0


def visibility_spans(scene: Scene) -> dict[str, list[Span]]:
    """For every description that ever fits something in view ("a red circle", "something red", "a star"): its spans."""
    seen: dict[str, list[float]] = defaultdict(list)
    for step in range(int(scene.duration / STEP) + 1):
        time = step * STEP
        names = {n for thing in scene.objects if is_visible(thing, time) for n in noun_phrases(thing, time)}
        for name in names:
            seen[name].append(time)
    return {name: _runs(times, scene.duration) for name, times in seen.items()}


def noun_phrases(thing: SceneObject, time: float) -> tuple[str, str, str]:
    """The three noun phrases that fit a thing."""
    colour = thing.colour_at(time)
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {thing.shape}", f"something {colour}", f"a {thing.shape}"


def _runs(times: list[float], duration: float) -> list[Span]:
    """Consecutive looks become spans. Each look stands for the step after it."""
    spans: list[list[float]] = []
    for time in times:
        if spans and time - spans[-1][1] < STEP / 2:
            spans[-1][1] = time + STEP
        else:
            spans.append([time, time + STEP])
    return [(round(start, 3), round(min(end, duration), 3)) for start, end in spans]
