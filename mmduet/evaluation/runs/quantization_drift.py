"""Measure the effect of quantised weights: run one split of scenes with two models and compare scores and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmduet.annotations.scene_files import read_clips
from mmduet.engine import Engine, recommended_options
from mmduet.evaluation.runs.scene_queries import prepare_frames, run_queries
from mmduet.events import Query
from mmduet.progress import ProgressCallback
from mmduet.tasks.base import StreamResult


@dataclass(frozen=True)
class QuantizationDrift:
    """Differences between two models over all frames of a split, for its narration query and its questions.

    ``*_mean`` and ``*_max`` are absolute differences of probabilities.

    Attributes:
        frames: The number of compared frames.
        speak_frames: Frames at which the baseline speaks.
        decisions_changed: Frames at which exactly one of the models speaks.
        replies_changed: Frames at which both speak, with different texts.
    """

    frames: int
    speak_frames: int
    informative_mean: float
    informative_max: float
    relevance_mean: float
    relevance_max: float
    decisions_changed: int
    replies_changed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values under their names in JSON files."""
        return {
            "frames": self.frames,
            "spoken": self.speak_frames,
            "informative_mean": self.informative_mean,
            "informative_max": self.informative_max,
            "relevance_mean": self.relevance_mean,
            "relevance_max": self.relevance_max,
            "decisions_changed": self.decisions_changed,
            "replies_changed": self.replies_changed,
        }


@dataclass
class _Totals:
    """Sums over the streams so far; ``differences`` are pairs of informative and relevance score."""

    differences: list[tuple[float, float]] = field(default_factory=list)
    speak_frames: int = 0
    decisions_changed: int = 0
    replies_changed: int = 0

    def add(self, baseline: StreamResult, quantized: StreamResult) -> None:
        """Add the two models' results on the same frames and query."""
        for a, b in zip(baseline.scores, quantized.scores, strict=True):
            self.differences.append((abs(a.informative - b.informative), abs(a.relevance - b.relevance)))
            self.speak_frames += a.speak
            self.decisions_changed += a.speak != b.speak
        first, second = ({reply.frame: reply.text for reply in result.replies} for result in (baseline, quantized))
        self.replies_changed += sum(first[frame] != second[frame] for frame in first.keys() & second.keys())

    def to_drift(self) -> QuantizationDrift:
        """Compute the means and maxima."""
        informative, relevance = np.array(self.differences).T
        return QuantizationDrift(
            frames=len(self.differences),
            speak_frames=self.speak_frames,
            informative_mean=float(informative.mean()),
            informative_max=float(informative.max()),
            relevance_mean=float(relevance.mean()),
            relevance_max=float(relevance.max()),
            decisions_changed=self.decisions_changed,
            replies_changed=self.replies_changed,
        )


def measure_drift(
    directory: str | Path, baseline: Engine, quantized: Engine, progress: ProgressCallback | None = None
) -> QuantizationDrift:
    """Run every clip of a split with every query on both engines and compare the results.

    Raises:
        AnnotationError: ``directory`` is not a split.
    """
    root, clips, totals = Path(directory), read_clips(directory), _Totals()
    recommended = baseline.model.config.recommended
    options = recommended_options(recommended)
    for done, clip in enumerate(clips, start=1):
        frames = prepare_frames(baseline, root / "videos" / clip["video"], recommended.fps)
        queries = [Query(recommended.query), *_question_queries(clip["questions"])]
        results = (run_queries(engine, options, frames, queries) for engine in (baseline, quantized))
        for first, second in zip(*results, strict=True):
            totals.add(first, second)
        if progress:
            progress(done, len(clips))
    return totals.to_drift()


def _question_queries(questions: Sequence[dict[str, Any]]) -> list[Query]:
    return [Query(question["question"], question["time"]) for question in questions]
