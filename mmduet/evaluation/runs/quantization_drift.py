"""What quantised weights change: one split of scenes watched by the model as it is and as it would be; no drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmduet.engine import Engine, recommended_options
from mmduet.evaluation.runs.scene_scores import watch_each
from mmduet.events import Query
from mmduet.scenes import load_clips
from mmduet.video import open_frames

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Drift:
    """Over every frame of the split, narrated and asked its questions: how far scores moved, what became of decisions.

    ``*_mean`` and ``*_max`` are absolute differences of probabilities. ``decisions_changed`` counts frames at which exactly
    one of the two speaks; ``replies_changed`` those at which both do, in other words.
    """

    frames: int
    spoken: int  # frames at which the model as it is speaks
    informative_mean: float
    informative_max: float
    relevance_mean: float
    relevance_max: float
    decisions_changed: int
    replies_changed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def drift(directory: str | Path, plain: Engine, other: Engine, progress: Progress | None = None) -> Drift:
    """Let both watch every clip, with every query. Raises ``AnnotationError`` where there is no split."""
    root, clips, best = Path(directory), load_clips(directory), plain.model.config.recommended
    differences: list[tuple[float, float]] = []
    decided = [0, 0, 0]  # spoken by plain, changed, said otherwise
    for done, clip in enumerate(clips, start=1):
        pictures = [plain.prepare(frame) for frame in open_frames(root / "videos" / clip["video"], best.fps)]
        queries = [Query(best.query), *(Query(q["question"], q["time"]) for q in clip["questions"])]
        watched = [watch_each(engine, recommended_options(best), pictures, queries) for engine in (plain, other)]
        for one, two in zip(*watched, strict=True):
            for a, b in zip(one.scores, two.scores, strict=True):
                differences.append((abs(a.informative - b.informative), abs(a.relevance - b.relevance)))
                decided[0] += a.speak
                decided[1] += a.speak != b.speak
            said = [{reply.frame: reply.text for reply in seen.replies} for seen in (one, two)]
            both = said[0].keys() & said[1].keys()
            decided[2] += sum(said[0][frame] != said[1][frame] for frame in both)
        if progress:
            progress(done, len(clips))
    informative, relevance = np.array(differences).T
    return Drift(
        len(differences), decided[0], float(informative.mean()), float(informative.max()),
        float(relevance.mean()), float(relevance.max()), decided[1], decided[2],
    )  # fmt: skip
