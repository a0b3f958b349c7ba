"""Events of dense captioning in every supported kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmduet.annotations.dense_captioning_files import read_events
from mmduet.options import Profile

PROFILES: tuple[Profile, ...] = ("paper", "fixed")


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_events_of_every_kind_of_file(tmp_path: Path) -> None:
    vid2seq = {"annotations": [{"image_id": "a", "segments": [[0, 1], [1, 2]], "pure_cap": "One. Two."}]}
    answers = [{"role": "assistant", "content": "One. Or two", "time": [0, 1]}]
    duet = [{"question_id": "a", "answer": answers}]
    densevid = {"a": {"timestamps": [[0, 10], [10, 20]], "sentences": ["One.", "Two."], "duration": 20}}
    path = tmp_path / "a.json"
    captions = {p: [s.caption for s in read_events(write(path, vid2seq), p)["a"]] for p in PROFILES}
    assert captions == {"fixed": ["One.", "Two."], "paper": ["One.", "Two.."]}
    captions = {p: [s.caption for s in read_events(write(path, duet), p)["a"]] for p in PROFILES}
    assert captions == {"fixed": ["One. Or two"], "paper": ["One, Or two."]}
    assert [s.end for s in read_events(write(path, densevid))["a"]] == [10, 20]
