"""Label every frame of a clip from its boxes and events: patch contents, event stage, inventory, query matches.

Labels are NumPy arrays. ``IGNORE`` marks what would be a guess: before a query has come, and where ``patch_labels`` and
``event_labels`` say so.
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
from mmduet.recipes.nano.event_labels import event_stage, known_caption_classes, matches_query, query_classes
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS, label_patches
from mmduet.recipes.nano.scene_description import describe, visible_boxes
from mmduet.scenes.prompts import KIND_PHRASES, KIND_QUESTIONS, SUBJECT_QUESTIONS, fill_template
from mmduet.training.collate import Ints, Labels

IDENTITIES = [(colour, shape) for colour in COLOUR_CLASS for shape in SHAPE_CLASS]


class FrameLabeler:
    """The ``LabelProvider`` of nano: auxiliary labels and side questions from each clip's boxes and events."""

    def __init__(self, clips: Sequence[dict[str, Any]], fps: float, config: DuetConfig) -> None:
        self._clips = {clip["video"]: clip for clip in clips}
        self._fps, self._side = fps, config.pooled_side
        self._patches: dict[tuple[str, int], patch_labels.PatchLabels] = {}

    def describe(self, video: str, time: float) -> str:
        """Return what is visible at ``time``, as text."""
        return describe(self._boxes(video, time))

    def unanswerable_query(self, video: str, rng: np.random.Generator) -> str:
        """Return a question that no event of the video answers, half of them about event kinds, half about subjects."""
        events = self._clips[video]["events"]
        absent = [p for p, kinds in KIND_PHRASES.items() if not any(event["kind"] in kinds for event in events)]
        if absent and rng.random() < 0.5:
            return fill_template(rng, KIND_QUESTIONS, absent[int(rng.integers(len(absent)))])
        subjects = {event["subject"] for event in events}
        others = [name for name in (f"{colour} {shape}" for colour, shape in IDENTITIES) if name not in subjects]
        similar = [name for name in others if any(set(name.split()) & set(s.split()) for s in subjects)] or others
        return fill_template(rng, SUBJECT_QUESTIONS, similar[int(rng.integers(len(similar)))])

    def labels(self, sample: Sample, times: NDArray[np.float64]) -> Labels:
        """Return the labels of F frames at ``times`` with K visual tokens each. Nothing before ``times[0]`` is known.

        Shapes: ``changes``, ``query_matches``, ``roles`` [F, K]; ``before`` [F, K, 4] in the order of ``PAST_SLOTS``;
        ``motion`` [F, K, 5] in the order of ``MOTION_SLOT_SIZES``; ``inventory`` [F, 2, 35]; ``event_stages`` and
        ``matches_query`` [F]; ``caption_classes`` [F, 8] in the order of ``CAPTION_SLOTS``; ``query_classes`` [F, 3] in the
        order of ``QUERY_SLOTS``.
        """
        boxes = [self._boxes(sample.video, float(t)) for t in times]
        patches = [self._label_patches(sample.video, float(t)) for t in times]
        events = self._clips[sample.video]["events"]
        stages = [event_stage(events, float(times[0]), float(t)) for t in times]
        query = query_classes(sample.queries[0].text if sample.queries else "")
        known = np.array([len(sample.queries) < 2 and all(q.time <= t for q in sample.queries) for t in times])
        matches = np.array([matches_query(*stage, query) if sample.kind == "qa" else IGNORE for stage in stages])
        return {
            "changes": patch_labels.label_changes(patches),
            "before": patch_labels.label_past_contents(patches),
            "motion": patch_labels.label_motion(patches, boxes),
            "inventory": _inventories(boxes),
            "query_matches": np.where(known[:, None], patch_labels.label_query_matches(patches, query), IGNORE),
            "event_stages": np.array([label for label, _ in stages]),
            "roles": np.stack([patch_labels.label_roles(*s, p[0]) for s, p in zip(stages, patches, strict=True)]),
            "caption_classes": np.array([known_caption_classes(*stage) for stage in stages]),
            "query_classes": np.where(known[:, None], np.array(query), IGNORE),
            "matches_query": np.where(known, matches, IGNORE),
        }

    def _boxes(self, video: str, time: float) -> list[list[Any]]:
        boxes: list[list[Any]] = self._clips[video]["boxes"][self._frame_index(video, time)]
        return boxes

    def _frame_index(self, video: str, time: float) -> int:
        return min(round(time * self._fps), len(self._clips[video]["boxes"]) - 1)

    def _label_patches(self, video: str, time: float) -> patch_labels.PatchLabels:
        """Return the labels of a frame's patches, cached because every frame is drawn many times."""
        key = (video, self._frame_index(video, time))
        if key not in self._patches:
            self._patches[key] = label_patches(self._boxes(video, time), self._side)
        return self._patches[key]


def _inventories(boxes: Sequence[Sequence[Sequence[Any]]]) -> Ints:
    """Return [F, 2, 35]: 1 for each identity in view, now and ``LAG_FRAMES`` frames before (IGNORE before the first frame)."""
    views = [{(box[0], box[1]) for box in visible_boxes(frame)} for frame in boxes]
    now = np.array([[int(identity in view) for identity in IDENTITIES] for view in views])
    past = np.full_like(now, IGNORE)
    past[patch_labels.LAG_FRAMES :] = now[: max(0, len(now) - patch_labels.LAG_FRAMES)]
    return np.stack([now, past], axis=1)
