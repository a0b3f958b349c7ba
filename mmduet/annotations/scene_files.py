"""Read and write the annotation files of a split of procedural scenes, also in the format of every benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmduet.annotations.json_files import read_json_table
from mmduet.annotations.json_values import Json
from mmduet.errors import AnnotationError
from mmduet.files import visible_files, write_json, write_text

CLIPS_FOLDER = "clips"


def clip_path(root: Path, index: int) -> Path:
    """Return the path of one clip's annotations."""
    return root / CLIPS_FOLDER / f"{index:05d}.json"


def read_clips(root: str | Path) -> list[Json]:
    """Return the annotations of every clip of a split, in order. Raises ``AnnotationError`` where none exists."""
    paths = visible_files(Path(root) / CLIPS_FOLDER, "*.json")
    if not paths:
        raise AnnotationError(
            f"{root} has no scenes (no {CLIPS_FOLDER}/*.json); create some with: mmduet scenes make {root}"
        )
    return [read_json_table(path) for path in paths]


def write_benchmark_files(root: Path, clips: Sequence[Json], narration_prompt: str) -> None:
    """Write ``{dense_captioning,magqa,grounding}{,_test}.json`` and ``highlights.jsonl``.

    ``narration_prompt`` is the query of the dense captioning test set.
    """
    write_json(root / "dense_captioning.json", {c["video"]: {"annotation": c["captions"]} for c in clips})
    write_json(root / "dense_captioning_test.json", [_dense_captioning_test(c, narration_prompt) for c in clips])
    write_json(root / "magqa.json", [_magqa(c, q) for c in clips for q in c["questions"]])
    write_json(root / "magqa_test.json", [_magqa_test(c, i, q) for c in clips for i, q in enumerate(c["questions"])])
    write_json(
        root / "grounding.json",
        [{"video_uid": c["video"], **g} for c in clips for g in [*c["groundings"], c["absent"]]],
    )
    write_json(
        root / "grounding_test.json", [_grounding_test(c, i, g) for c in clips for i, g in enumerate(c["groundings"])]
    )
    highlights = [
        {"qid": qid, "vid": vid, **h}
        for qid, (vid, h) in enumerate((c["video"], h) for c in clips for h in c["highlights"])
    ]
    write_text(root / "highlights.jsonl", "".join(json.dumps(row) + "\n" for row in highlights))


def _dense_captioning_test(clip: Json, prompt: str) -> Json:
    return {
        "question_id": Path(clip["video"]).stem,
        "video": clip["video"],
        "conversation": [{"role": "user", "content": prompt, "time": 0.0}],
        "answer": [{"role": "assistant", "content": c["text"], "time": c["timespan"]} for c in clip["captions"]],
    }


def _magqa(clip: Json, question: Json) -> Json:
    turns = [{"role": "user", "time": question["time"], "content": question["question"]}]
    turns += [
        {"role": "assistant", "time": a["time"], "content": a["content"], "timespan": a["timespan"]}
        for a in question["answers"]
    ]
    return {"video_uid": clip["video"], "conversation": turns}


def _magqa_test(clip: Json, index: int, question: Json) -> Json:
    return {
        "question_id": f"{Path(clip['video']).stem}-{index}",
        "video": clip["video"],
        "conversation": [{"role": "user", "content": question["question"], "time": question["time"]}],
        "answer": [{"content": a["content"], "time": a["timespan"]} for a in question["answers"]],
    }


def _grounding_test(clip: Json, index: int, grounding: Json) -> Json:
    return {
        "question_id": f"{Path(clip['video']).stem}-{index}",
        "video": clip["video"],
        "conversation": [{"role": "user", "content": grounding["query"], "time": 0.0}],
        "timestamps": grounding["timestamps"],
    }
