"""Measure the effect of a bounded window: score one model on one split of scenes, once per window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmduet.engine import Engine, recommended_options
from mmduet.evaluation.runs.scene_scores import SceneScores, score_scenes
from mmduet.progress import ProgressCallback


@dataclass(frozen=True)
class WindowResult:
    """The scores with a window of ``window`` frames (None: unbounded), and the KV memory per stream."""

    window: int | None
    scores: SceneScores
    kv_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values under their names in JSON files."""
        return {"window": self.window, "stream_bytes": self.kv_bytes, **self.scores.to_dict()}


def run_window_ablation(
    directory: str | Path, engine: Engine, windows: Sequence[int | None], progress: ProgressCallback | None = None
) -> Iterator[WindowResult]:
    """Yield the result of each window.

    Raises:
        AnnotationError: ``directory`` is not a split.
        OptionError: a window exceeds the model's positions; raised before the first run.
    """
    config = engine.model.config
    options = [replace(recommended_options(config.recommended), window=window) for window in windows]
    bytes_per_token = config.kv_bytes_per_token(engine.model.network.dtype.itemsize)
    kv_bytes = [engine.slot_tokens(each) * bytes_per_token for each in options]
    for i, (each, size) in enumerate(zip(options, kv_bytes, strict=True)):
        scores = score_scenes(directory, engine, _overall_progress(progress, i, len(options)), each)
        yield WindowResult(each.window, scores, size)


def _overall_progress(progress: ProgressCallback | None, index: int, count: int) -> ProgressCallback | None:
    """Return a callback that reports the progress of run ``index`` of ``count`` as progress of all runs."""
    return None if progress is None else lambda done, total: progress(index * total + done, count * total)
