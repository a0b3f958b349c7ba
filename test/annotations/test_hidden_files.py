"""Folders of annotation files are read without the hidden files that macOS leaves in them."""

from __future__ import annotations

import json
from pathlib import Path

from mmduet.annotations.ovo_files import read_results
from mmduet.annotations.prediction_files import PredictionFile
from mmduet.annotations.scene_files import read_clips
from mmduet.files import write_json


def add_hidden_file(path: Path) -> None:
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")


def test_clips_of_a_split(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_json(tmp_path / "clips" / "00000.json", {"video": "00000.mp4"})
    add_hidden_file(tmp_path / "clips" / "00000.json")
    assert read_clips(tmp_path) == [{"video": "00000.mp4"}]


def test_results_of_ovo_bench(tmp_path: Path) -> None:
    row = {"id": 1, "task": "EPM", "response": "A", "ground_truth": "A"}
    write_json(tmp_path / "results.json", {"backward": [row], "realtime": [], "forward": []})
    add_hidden_file(tmp_path / "results.json")
    assert [entry.id for entry in read_results(tmp_path)] == [1]


def test_an_edited_prediction_file_with_byte_order_marks_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with PredictionFile(path, {"fps": 2}) as file:
        file.add({"question_id": 2})
        file.add({"question_id": 1})
    for written in (path, tmp_path / "predictions.jsonl.settings.json"):
        written.write_text(written.read_text(encoding="utf-8"), encoding="utf-8-sig")
    with PredictionFile(path, {"fps": 2}) as file:
        assert file.done == {1, 2}
        file.sort([1, 2])
    assert [json.loads(line)["question_id"] for line in path.read_text(encoding="utf-8").splitlines()] == [1, 2]
