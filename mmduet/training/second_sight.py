"""The LM's lessons in time: at every visual token whether its cell has changed, at every frame what is going on.

To know that something has just ended, an LM must first find that things change from frame to frame, and the heads' few
positive labels teach it that slowly. These lessons are dense, stand beside the duet's own losses; their heads are dropped.
"""

from __future__ import annotations

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
from mmduet.training.collate import Batch
from mmduet.training.first_sight import patch_labels
from mmduet.training.looks import describe

KINDS: tuple[Kind, ...] = get_args(Kind)
EMPTY, STILL, CHANGED = 0, 1, 2
LEAST_CHANGE = 0.05  # of the scaled geometry: a hundredth of the frame's side
Ints = NDArray[np.int64]


class TimeLessons(nn.Module):
    """The duet model and the lesson heads."""

    def __init__(self, model: DuetModel) -> None:
        super().__init__()
        width = model.config.text.hidden_size
        self.model = model
        self.change = nn.Linear(width, 3)
        self.happening = nn.Linear(width, 1 + 2 * len(KINDS))

    def losses(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of both lessons, from the batch's hidden states [B, T, D]."""
        changes, happenings = batch.changes, batch.happenings
        if changes is None or happenings is None:
            return {}
        seen = self.change(hidden[batch.is_frame])  # [B * F * K, 3]
        ends = hidden[torch.arange(len(hidden))[:, None], batch.frame_ends]  # [B, F, D]
        return {
            "change": cross_entropy(seen.float(), changes.flatten(), ignore_index=IGNORE),
            "happening": cross_entropy(self.happening(ends).flatten(0, 1).float(), happenings.flatten()),
        }


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

    def lessons(self, video: str, times: NDArray[np.float64]) -> tuple[Ints, Ints]:
        """Changes [F, K] and happenings [F] at the times of a clip's frames; the first frame's changes are ignored."""
        maps = [patch_labels(self._boxes(video, float(t)), self._side) for t in times]
        changes = np.full((len(times), self._side**2), IGNORE)
        for k in range(1, len(maps)):
            changes[k] = _changes(maps[k - 1], maps[k])
        return changes, np.array([happening(self._clips[video]["events"], float(t)) for t in times])


def _changes(before: tuple[Ints, NDArray[np.float32]], now: tuple[Ints, NDArray[np.float32]]) -> Ints:
    """EMPTY, STILL or CHANGED for each cell [K]."""
    covered = (now[0][:, 0] > 0) | (before[0][:, 0] > 0)
    other = (now[0] != before[0]).any(1) | (np.abs(now[1] - before[1]) > LEAST_CHANGE).any(1)
    return np.where(covered, np.where(other, CHANGED, STILL), EMPTY)


def happening(events: Sequence[dict[str, Any]], time: float) -> int:
    """0: nothing; 1 + kind: going on; then, for as long as it should be told: just ended."""
    for event in events:
        kind = KINDS.index(event["kind"])
        if event["start"] <= time < event["end"]:
            return 1 + kind
        if event["end"] <= time <= event["end"] + TELL:
            return 1 + len(KINDS) + kind
    return 0
