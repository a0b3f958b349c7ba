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
def test_answers_are_given_when_they_become_true(ask: Command, clips: Any, tmp_path: Path, k: int) -> None:
    question = clips.truth[k]["questions"][0]
    files = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png", "--subtitles", tmp_path / "a.vtt")
    done = ask(clips.video(k), "--query", f"{question['question']}@{question['time']}", *files)
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    answers, expected = entry["answers"], question["answers"]
    assert (entry["question"], entry["asked"]) == (question["question"], question["time"])
    assert tables(done)[clips.truth[k]["video"]] == [
        [f"{a['start']:.2f}", f"{a['end']:.2f}", a["text"]] for a in answers
    ]
    start_of = {a["text"]: a["start"] for a in answers}
    correct = [a for a in expected if a["end"] <= start_of.get(a["content"], -1.0) <= a["end"] + 1]
    assert len(correct) >= 0.6 * len(expected)
    assert len(answers) <= len(expected) + 1
    assert check_subtitles(tmp_path / "a.vtt") == len(answers)
    check_plot(tmp_path / "a.png")


def test_no_answer_precedes_the_query(ask: Command, clips: Any, tmp_path: Path) -> None:
    query_time = clips.truth[0]["events"][1]["end"] + 1.5
    done = ask(clips.video(0), "--query", f"Narrate the scene.@{query_time}", "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    answers = report(tmp_path / "a.json")["videos"][0]["answers"]
    assert answers
    assert all(answer["start"] >= query_time for answer in answers)


@pytest.mark.parametrize(("query", "message"), [("Who?@-1", "from 0 up"), ("@3", "no text"), (" ", "no text")])
def test_invalid_query_is_rejected(ask: Command, clips: Any, query: str, message: str) -> None:
    done = ask(clips.video(0), "--query", query)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
