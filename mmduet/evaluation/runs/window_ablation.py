"""What a bounded window costs: one model on one split of scenes, once per window; no drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmduet.engine import Engine, recommended_options
from mmduet.evaluation.runs.scene_scores import SceneScores, score_scenes

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WindowCost:
    """One row: frames in view (None: all), what the model scores with them, and memory of keys and values per stream."""

    window: int | None
    scores: SceneScores
    stream_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"window": self.window, "stream_bytes": self.stream_bytes, **self.scores.to_dict()}


def window_costs(
    directory: str | Path, engine: Engine, windows: Sequence[int | None], progress: Progress | None = None
) -> Iterator[WindowCost]:
    """A row for each window, as it is done. Raises ``OptionError`` for a window that the model has no positions for."""
    options = [replace(recommended_options(engine.model.config.recommended), window=window) for window in windows]
    config = engine.model.config
    per_token = config.kv_bytes_per_token(engine.model.network.dtype.itemsize)
    sizes = [engine.slot_tokens(given) * per_token for given in options]  # refuses before anything is watched
    for number, (given, size) in enumerate(zip(options, sizes, strict=True)):
        yield WindowCost(
            given.window, score_scenes(directory, engine, _part(progress, number, len(options)), given), size
        )


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Progress of one part of many, told as progress of all."""
    return None if progress is None else lambda done, total: progress(number * total + done, parts * total)
