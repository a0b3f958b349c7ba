"""Writes a split's truth in each benchmark's own file format; knows the formats, nothing of scenes or pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmduet.files import write_json, write_text
from mmduet.scenes.prompts import NARRATE

Json = dict[str, Any]


def write_all(root: Path, clips: list[Json]) -> None:
    """``{dense_captioning,magqa,grounding}{,_test}.json``, ``highlights.jsonl``."""
    write_json(root / "dense_captioning.json", {c["video"]: {"annotation": c["captions"]} for c in clips})
    write_json(root / "dense_captioning_test.json", [_captions_test(c) for c in clips])
    write_json(root / "magqa.json", [_magqa(c, q) for c in clips for q in c["questions"]])
    write_json(root / "magqa_test.json", [_magqa_test(c, i, q) for c in clips for i, q in enumerate(c["questions"])])
    write_json(
        root / "grounding.json",
        [{"video_uid": c["video"], **g} for c in clips for g in [*c["groundings"], c["absent"]]],
    )
    write_json(
        root / "grounding_test.json", [_grounding_test(c, i, g) for c in clips for i, g in enumerate(c["groundings"])]
    )
    rows = [
        {"qid": qid, "vid": vid, **h}
        for qid, (vid, h) in enumerate((c["video"], h) for c in clips for h in c["highlights"])
    ]
    write_text(root / "highlights.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _captions_test(clip: Json) -> Json:
    return {
        "question_id": Path(clip["video"]).stem,
        "video": clip["video"],
        "conversation": [{"role": "user", "content": NARRATE[0], "time": 0.0}],
        "answer": [{"role": "assistant", "content": c["text"], "time": c["timespan"]} for c in clip["captions"]],
    }


def _magqa(clip: Json, question: Json) -> Json:
    turns = [{"role": "user", "time": question["time"], "content": question["question"]}]
    turns += [
        {"role": "assistant", "time": a["time"], "content": a["content"], "timespan": a["timespan"]}
        for a in question["answers"]
    ]
    return {"video_uid": clip["video"], "conversation": turns}


def _magqa_test(clip: Json, number: int, question: Json) -> Json:
    return {
        "question_id": f"{Path(clip['video']).stem}-{number}",
        "video": clip["video"],
        "conversation": [{"role": "user", "content": question["question"], "time": question["time"]}],
        "answer": [{"content": a["content"], "time": a["timespan"]} for a in question["answers"]],
    }


def _grounding_test(clip: Json, number: int, grounding: Json) -> Json:
    return {
        "question_id": f"{Path(clip['video']).stem}-{number}",
        "video": clip["video"],
        "conversation": [{"role": "user", "content": grounding["query"], "time": 0.0}],
        "timestamps": grounding["timestamps"],
    }
