"""What is true at every frame of a clip, as lesson labels: what each cell holds, what goes on, who is in view, what is asked.

Labels are NumPy arrays. ``IGNORE`` stands where a label would be a guess: before a query is asked, and where ``cells`` and
``happenings`` say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.model.config import DuetConfig
from mmduet.recipes.nano import patch_labels
from mmduet.recipes.nano.event_labels import happening, known_of, named_by, wanted
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS, label_patches
from mmduet.recipes.nano.scene_description import describe, visible
from mmduet.scenes.prompts import ASK_KIND, ASK_SUBJECT, KIND_PHRASES, fill
from mmduet.training.collate import Ints, Lessons

IDENTITIES = [(colour, shape) for colour in COLOUR_CLASS for shape in SHAPE_CLASS]


class TimeBook:
    """The lessons' labels, from each clip's boxes and events."""

    def __init__(self, clips: Sequence[dict[str, Any]], fps: float, config: DuetConfig) -> None:
        self._clips = {clip["video"]: clip for clip in clips}
        self._fps, self._side = fps, config.pooled_side
        self._maps: dict[tuple[str, int], patch_labels.Map] = {}

    def view(self, video: str, time: float) -> str:
        """What can be seen then, in words."""
        return describe(self._boxes(video, time))

    def _boxes(self, video: str, time: float) -> list[list[Any]]:
        boxes: list[list[Any]] = self._clips[video]["boxes"][self._number(video, time)]
        return boxes

    def _number(self, video: str, time: float) -> int:
        return min(round(time * self._fps), len(self._clips[video]["boxes"]) - 1)

    def _map(self, video: str, time: float) -> patch_labels.Map:
        """The labels of a frame's cells; made once, since every frame is met many times."""
        key = (video, self._number(video, time))
        if key not in self._maps:
            self._maps[key] = label_patches(self._boxes(video, time), self._side)
        return self._maps[key]

    def unanswered(self, video: str, rng: np.random.Generator) -> str:
        """A question that no event of the video answers, as often about what happens as about who does it."""
        events = self._clips[video]["events"]
        absent = [p for p, kinds in KIND_PHRASES.items() if not any(event["kind"] in kinds for event in events)]
        if absent and rng.random() < 0.5:
            return fill(rng, ASK_KIND, absent[int(rng.integers(len(absent)))])
        doers = {event["subject"] for event in events}
        idle = [name for name in (f"{colour} {shape}" for colour, shape in IDENTITIES) if name not in doers]
        alike = [name for name in idle if any(set(name.split()) & set(doer.split()) for doer in doers)] or idle
        return fill(rng, ASK_SUBJECT, alike[int(rng.integers(len(alike)))])

    def lessons(self, sample: Sample, times: NDArray[np.float64]) -> Lessons:
        """The labels of a sample whose frames stand at ``times``; what came before the first is not known."""
        boxes = [self._boxes(sample.video, float(t)) for t in times]
        maps = [self._map(sample.video, float(t)) for t in times]
        events = self._clips[sample.video]["events"]
        stages = [happening(events, float(times[0]), float(t)) for t in times]
        named = named_by(sample.queries[0].text if sample.queries else "")
        known = np.array([len(sample.queries) < 2 and all(q.time <= t for q in sample.queries) for t in times])
        asked_for = np.array([wanted(*stage, named) if sample.kind == "qa" else IGNORE for stage in stages])
        return Lessons(
            changes=patch_labels.changes_of(maps),
            motion=patch_labels.motion_of(maps, boxes),
            before=patch_labels.before_of(maps),
            inventory=_inventories(boxes),
            asked=np.where(known[:, None], patch_labels.asked_of(maps, named), IGNORE),
            happenings=np.array([label for label, _ in stages]),
            roles=np.stack([patch_labels.roles_of(*stage, m[0]) for stage, m in zip(stages, maps, strict=True)]),
            told=np.array([known_of(*stage) for stage in stages]),
            named=np.where(known[:, None], np.array(named), IGNORE),
            wanted=np.where(known, asked_for, IGNORE),
        )


def _inventories(boxes: Sequence[Sequence[Sequence[Any]]]) -> Ints:
    """[F, 2, 35]: 1 for each identity in view, now and ``cells.AGO`` frames ago (IGNORE where that was not seen)."""
    views = [{(box[0], box[1]) for box in visible(frame)} for frame in boxes]
    now = np.array([[int(identity in view) for identity in IDENTITIES] for view in views])
    past = np.full_like(now, IGNORE)
    past[patch_labels.AGO :] = now[: max(0, len(now) - patch_labels.AGO)]
    return np.stack([now, past], axis=1)
