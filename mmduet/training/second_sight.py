"""The LM's lessons: at every visual token, has its cell changed, is it what was asked for; at every frame, who does what.

To know that something has just ended, an LM must first find that things change from frame to frame, and the heads' few
positive labels teach it that slowly. These lessons are dense, stand beside the duet's own losses; their heads are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmduet.duet import IGNORE
from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel
from mmduet.scenes.truth import TELL
from mmduet.scenes.world import Kind
from mmduet.training.collate import Batch, Ints, Lessons
from mmduet.training.first_sight import COLOUR_CLASS, SHAPE_CLASS, patch_labels
from mmduet.training.looks import describe
from mmduet.training.samples import Sample

KINDS: tuple[Kind, ...] = get_args(Kind)
EMPTY, STILL, CHANGED = 0, 1, 2
LEAST_CHANGE = 0.05  # of the scaled geometry: a hundredth of the frame's side


class TimeLessons(nn.Module):
    """The duet model and the lesson heads."""

    def __init__(self, model: DuetModel) -> None:
        super().__init__()
        width = model.config.text.hidden_size
        self.model = model
        self.change = nn.Linear(width, 3)
        self.happening = nn.Linear(width, 1 + 2 * len(KINDS))
        self.asked = nn.Linear(width, 2)
        self.who = nn.Linear(width, len(COLOUR_CLASS) + 1 + len(SHAPE_CLASS) + 1)

    def losses(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of the lessons, from the batch's hidden states [B, T, D]."""
        labels = batch.lessons
        if labels is None:
            return {}
        seen = hidden[batch.is_frame]  # [B * F * K, D]
        ends = hidden[torch.arange(len(hidden))[:, None], batch.frame_ends]  # [B, F, D]
        parts = {
            "change": cross_entropy(self.change(seen).float(), labels.changes.flatten(), ignore_index=IGNORE),
            "happening": cross_entropy(self.happening(ends).flatten(0, 1).float(), labels.happenings.flatten()),
        }
        asked = labels.asked.flatten()
        if (asked != IGNORE).any():
            parts["asked"] = cross_entropy(self.asked(seen[asked != IGNORE]).float(), asked[asked != IGNORE])
        who = labels.who.flatten(0, 1)  # [B * F, 2]
        if (who[:, 0] != IGNORE).any():
            colour, shape = (
                self.who(ends).flatten(0, 1).float().split([len(COLOUR_CLASS) + 1, len(SHAPE_CLASS) + 1], dim=-1)
            )
            parts["who"] = cross_entropy(colour, who[:, 0], ignore_index=IGNORE)
            parts["who"] = parts["who"] + cross_entropy(shape, who[:, 1], ignore_index=IGNORE)
        return parts


class TimeBook:
    """The lessons' labels, from each clip's boxes and events."""

    def __init__(self, clips: Sequence[dict[str, Any]], fps: float, config: DuetConfig) -> None:
        self._clips = {clip["video"]: clip for clip in clips}
        self._fps, self._side = fps, config.pooled_side

    def view(self, video: str, time: float) -> str:
        """What can be seen then, in words."""
        return describe(self._boxes(video, time))

    def _boxes(self, video: str, time: float) -> list[list[Any]]:
        boxes: list[list[list[Any]]] = self._clips[video]["boxes"]
        return boxes[min(round(time * self._fps), len(boxes) - 1)]

    def lessons(self, sample: Sample, times: NDArray[np.float64]) -> Lessons:
        """The labels of a sample whose frames stand at ``times``; the first frame's changes are ignored."""
        maps = [patch_labels(self._boxes(sample.video, float(t)), self._side) for t in times]
        changes = np.full((len(times), self._side**2), IGNORE)
        for k in range(1, len(maps)):
            changes[k] = _changes(maps[k - 1], maps[k])
        events = self._clips[sample.video]["events"]
        going_on = [happening(events, float(t)) for t in times]
        happenings = np.array([label for label, _ in going_on])
        who = np.array([_who(event) for _, event in going_on])
        return Lessons(changes, _asked(sample, np.stack([m[0] for m in maps])), happenings, who)


def _who(event: dict[str, Any] | None) -> tuple[int, int]:
    """Colour and shape of who does it, as it is called in the caption; IGNORE where nothing goes on."""
    if event is None:
        return IGNORE, IGNORE
    colour, shape = event["subject"].split()
    return COLOUR_CLASS[colour], SHAPE_CLASS[shape]


def _asked(sample: Sample, classes: Ints) -> Ints:
    """1 where a cell holds what one query names by colour, shape or both, 0 elsewhere; ``classes`` is [F, K, 2].

    IGNORE before the query is asked, and everywhere if there is not one query that names a thing.
    """
    words = {w for q in sample.queries for w in re.findall("[a-z]+", q.text.lower())}
    colours = [c for name, c in COLOUR_CLASS.items() if name in words]
    shapes = [c for name, c in SHAPE_CLASS.items() if name in words]
    if len(sample.queries) != 1 or sample.queries[0].time > 0 or not (colours or shapes):
        return np.full(classes.shape[:2], IGNORE)
    fits = classes[..., 0] > 0
    if colours:
        fits &= np.isin(classes[..., 0], colours)
    if shapes:
        fits &= np.isin(classes[..., 1], shapes)
    return fits.astype(np.int64)


def _changes(before: tuple[Ints, NDArray[np.float32]], now: tuple[Ints, NDArray[np.float32]]) -> Ints:
    """EMPTY, STILL or CHANGED for each cell [K]."""
    covered = (now[0][:, 0] > 0) | (before[0][:, 0] > 0)
    other = (now[0] != before[0]).any(1) | (np.abs(now[1] - before[1]) > LEAST_CHANGE).any(1)
    return np.where(covered, np.where(other, CHANGED, STILL), EMPTY)


def happening(events: Sequence[dict[str, Any]], time: float) -> tuple[int, dict[str, Any] | None]:
    """The event, and 0: nothing; 1 + kind: going on; then, for as long as it should be told: just ended."""
    for event in events:
        kind = KINDS.index(event["kind"])
        if event["start"] <= time < event["end"]:
            return 1 + kind, event
        if event["end"] <= time <= event["end"] + TELL:
            return 1 + len(KINDS) + kind, event
    return 0, None
