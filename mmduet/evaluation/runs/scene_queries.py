"""Run queries on the frames of one scene clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmduet.engine import Engine
from mmduet.engine.session import PreparedFrame
from mmduet.events import Query
from mmduet.options import SessionOptions
from mmduet.pipelines.jobs import VideoJob
from mmduet.pipelines.local import run_videos
from mmduet.tasks.base import StreamResult
from mmduet.video import open_frames


def prepare_frames(engine: Engine, path: Path, fps: float) -> list[PreparedFrame]:
    """Decode a clip and return its frames, prepared for the engine's vision tower."""
    size = engine.model.config.vision.image_size
    return [engine.prepare(frame) for frame in open_frames(path, fps, size=size)]


def run_queries(
    engine: Engine, options: SessionOptions, frames: Sequence[PreparedFrame], queries: Sequence[Query]
) -> list[StreamResult]:
    """Process the frames once per query, in batched sessions, and return the results in the order of ``queries``.

    An empty query text stands for no query. Raises the error of the first session that failed.
    """
    jobs = [VideoJob(query, options, [query] if query.text else [], lambda: frames) for query in queries]
    if not jobs:
        return []
    results = []
    for result in run_videos(engine, jobs, max_concurrent=len(jobs), in_order=True):
        result.raise_for_error()
        assert result.stream is not None
        results.append(result.stream)
    return results
