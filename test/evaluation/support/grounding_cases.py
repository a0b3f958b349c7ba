"""Builders of short prediction and annotation files of grounding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def charades(*spans: Sequence[object]) -> Json:
    return {
        "annotations": [{"image_id": "v.mp4", "caption": "c", "timestamp": s, "id": i} for i, s in enumerate(spans)]
    }


def gold(*rows: Sequence[object]) -> list[Json]:
    return [{"question_id": str(i), "video": "v.mp4", "timestamps": spans} for i, spans in enumerate(rows)]


def segments(*rows: object) -> Json:
    return {str(i): {"timestamp": row} for i, row in enumerate(rows)}


def frames(qid: object, scores: Sequence[object], interval: float = 1.0) -> Json:
    data = [{"time": i * interval, "informative_score": 0.1, "relevance_score": s} for i, s in enumerate(scores)]
    return {"question_id": qid, "video_duration": 20.0, "model_response_list": [], "debug_data": data}


def text(qid: object, *answers: object, duration: object = 20.0) -> Json:
    turns = [{"time": 0.0, "content": "when 7?", "role": "user"}]
    turns += [{"time": 9.0, "content": answer, "role": "assistant"} for answer in answers]
    return {"question_id": qid, "video_duration": duration, "model_response_list": turns, "debug_data": []}


def files(folder: Path, predictions: object, annotations: object) -> tuple[Path, Path]:
    """A dict or a text as it is, a list one object a line; annotations as JSON."""
    paths = folder / "predictions.jsonl", folder / "gold.json"
    if isinstance(predictions, list):
        paths[0].write_text("".join(json.dumps(row) + "\n" for row in predictions))
    else:
        paths[0].write_text(predictions if isinstance(predictions, str) else json.dumps(predictions))
    paths[1].write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))
    return paths
