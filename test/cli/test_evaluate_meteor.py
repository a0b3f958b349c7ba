"""``mmduet evaluate`` with captions that METEOR cannot score: it reports them and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, CommandResult
from fake_java import install_fake_java


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = install_fake_java(tmp_path / "home")
    monkeypatch.setenv("JAVA_HOME", str(home))
    return home


def evaluate(mmduet: Command, folder: Path, captions: dict[str, str], *options: object) -> CommandResult:
    (folder / "p.json").write_text(json.dumps(captions))
    (folder / "a.json").write_text(json.dumps({name: ["a b c"] for name in captions}))
    files = ("--predictions", folder / "p.json", "--annotations", folder / "a.json", "--json", folder / "r.json")
    return mmduet("evaluate", "captions", *files, "--per-item", "--meteor-seconds", 0.5, *options)


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return content


@pytest.mark.usefixtures("java")
@pytest.mark.parametrize("word", ["hang", "memory", "kill"])
def test_a_caption_that_meteor_cannot_score_is_reported(word: str, mmduet: Command, tmp_path: Path) -> None:
    done = evaluate(mmduet, tmp_path, {"x": "a b", "bad": f"{word} b", "y": "a b c d", "z": "a"})
    assert done.status == 0
    assert "problem: bad: METEOR takes more than 0.5 s or 2 GB of memory for the caption" in done.err
    written = report(tmp_path)
    assert {item["id"]: item.get("METEOR") for item in written["items"]} == {
        "x": pytest.approx(20),
        "bad": None,
        "y": pytest.approx(40),
        "z": pytest.approx(10),
    }
    assert written["metrics"]["METEOR"] == pytest.approx((20 + 0 + 40 + 10) / 4)
    assert "1 of 4 captions" in written["notes"][-1]
    assert "as empty captions" in written["notes"][-1].replace("\n", " ")
    assert evaluate(mmduet, tmp_path, {"bad": f"{word} b", "x": "a"}, "--strict").status == 6


def test_a_process_that_is_killed_once_loses_no_caption(mmduet: Command, java: Path, tmp_path: Path) -> None:
    done = evaluate(mmduet, tmp_path, {"x": "a b", "y": "once b c", "z": "a"})
    assert done.status == 0
    assert "problem" not in done.err
    assert report(tmp_path)["metrics"]["METEOR"] == pytest.approx(20)
    assert (java / "bin" / "starts").read_text() == "xx"


def test_larger_captions_than_one_over_the_limit_are_not_tried(mmduet: Command, java: Path, tmp_path: Path) -> None:
    captions = {f"v{k}": "hang" + " a b" * (200 + k) for k in range(8)}
    done = evaluate(mmduet, tmp_path, {**captions, "x": "a"})
    assert done.status == 0
    assert len(report(tmp_path)["problems"]) == 8
    assert (java / "bin" / "starts").read_text() == "xx"


@pytest.mark.usefixtures("java")
def test_dense_captions_name_the_videos_without_meteor(mmduet: Command, tmp_path: Path) -> None:
    event = {"timestamp": [0, 5]}
    predictions = {"v": [{**event, "caption": "a b"}], "w": [{**event, "caption": "x"}]}
    annotations = {"v": {"duration": 9, "timestamps": [[0, 5]], "sentences": ["a hang"]},
                   "w": {"duration": 9, "timestamps": [[0, 5]], "sentences": ["y"]}}  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps(predictions))
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    files = ("--predictions", tmp_path / "p.json", "--annotations", tmp_path / "a.json", "--json", tmp_path / "r.json")
    done = mmduet("evaluate", "dense-captioning", *files, "--meteor-seconds", 0.5)
    assert done.status == 0, done.err
    assert [problem["id"] for problem in report(tmp_path)["problems"]] == ["v"]  # its event is SODA's hypothesis
    assert "1 of 12 captions" in report(tmp_path)["notes"][-1]


@pytest.mark.usefixtures("java")
def test_an_invalid_limit_is_rejected(mmduet: Command, tmp_path: Path) -> None:
    done = evaluate(mmduet, tmp_path, {"x": "a"}, "--meteor-seconds", 0)
    assert done.status == 2
    assert "more than 0 seconds" in done.err
