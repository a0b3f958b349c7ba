"""Builders of short query and prediction files of QVHighlights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmduet.metrics.highlights import average_precision

Json = dict[str, Any]


def ap(scores: Sequence[float], positive: Sequence[int]) -> float:
    return float(average_precision(np.array([scores]), np.array([[positive]], dtype=bool))[0, 0])


def query(qid: int | str = 1, **changes: object) -> Json:
    """10 clips, of which 3 and 4 are relevant."""
    row = {
        "qid": qid,
        "query": "a dog",
        "vid": "v",
        "duration": 20,
        "relevant_clip_ids": [3, 4],
        "saliency_scores": [[4, 4, 4], [2, 3, 4]],
        "relevant_windows": [[6, 10]],
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def submission(qid: int | str = 1, **changes: object) -> Json:
    """Right in everything."""
    row = {
        "qid": qid,
        "pred_saliency_scores": [0.0] * 3 + [0.9, 0.8] + [0.0] * 5,
        "pred_relevant_windows": [[6, 10, 0.9]],
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def frames(
    qid: int | str = 1, scores: Sequence[object] = (0.0,) * 6 + (0.9,) * 2 + (0.0,) * 12, fps: float = 1.0
) -> Json:
    data = [{"time": i / fps, "informative_score": 0.0, "relevance_score": score} for i, score in enumerate(scores)]
    return {"question_id": qid, "video_duration": 20.0, "model_response_list": [], "debug_data": data}


def files(folder: Path, predictions: Sequence[object] | str, gold: Sequence[object]) -> tuple[Path, Path]:
    paths = folder / "predictions.jsonl", folder / "gold.jsonl"
    for path, rows in zip(paths, (predictions, gold), strict=True):
        path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    return paths
