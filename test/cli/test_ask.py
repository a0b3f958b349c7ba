"""``mmduet ask``: every answer to a question, with its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Command, check_plot, check_subtitles, in_process
from task_commands import report, tables


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "ask")


@pytest.mark.parametrize("k", [0, 1, 2])
def test_it_answers_what_was_asked_when_it_becomes_true(ask: Command, clips: Any, tmp_path: Path, k: int) -> None:
    question = clips.truth[k]["questions"][0]
    files = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.vtt")
    done = ask(clips.video(k), "--query", f"{question['question']}@{question['time']}", *files)
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    answers, wanted = entry["answers"], question["answers"]
    assert (entry["question"], entry["asked"]) == (question["question"], question["time"])
    assert tables(done)[clips.truth[k]["video"]] == [
        [f"{a['start']:.2f}", f"{a['end']:.2f}", a["text"]] for a in answers
    ]
    told = {a["text"]: a["start"] for a in answers}
    right = [a for a in wanted if a["end"] <= told.get(a["content"], -1.0) <= a["end"] + 1]
    assert len(right) >= 0.6 * len(wanted)
    assert len(answers) <= len(wanted) + 1
    assert check_subtitles(tmp_path / "a.vtt") == len(answers)
    check_plot(tmp_path / "a.png")


def test_nothing_is_answered_before_it_is_asked(ask: Command, clips: Any, tmp_path: Path) -> None:
    late = clips.truth[0]["events"][1]["end"] + 1.5
    done = ask(clips.video(0), "--query", f"Narrate the scene.@{late}", "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    answers = report(tmp_path / "a.json")["videos"][0]["answers"]
    assert answers
    assert all(answer["start"] >= late for answer in answers)


@pytest.mark.parametrize(("query", "words"), [("Who?@-1", "from 0 up"), ("@3", "no text"), (" ", "no text")])
def test_questions_that_cannot_be_asked(ask: Command, clips: Any, query: str, words: str) -> None:
    done = ask(clips.video(0), "--query", query)
    assert (done.status, done.out) == (2, "")
    assert words in done.err
