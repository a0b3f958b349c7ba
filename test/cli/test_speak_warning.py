"""Speak policies for which the scores do not matter: one line on stderr says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import MODEL, Command

from mmduet.options import SpeakOptions

BOTH = ("informative", "relevance")


@pytest.mark.parametrize(
    ("speak", "frames", "reason"),
    [
        (SpeakOptions("threshold", 1.0), None, "never lets the model speak"),
        (SpeakOptions("threshold", 0.99), None, None),
        (SpeakOptions("threshold", 1.5, BOTH), None, None),
        (SpeakOptions("threshold", 2.0, BOTH), None, "the 2 scores of a frame cannot be above 2"),
        (SpeakOptions("threshold", float("inf")), None, "never"),
        (SpeakOptions("threshold", 0.0), None, "after every frame"),
        (SpeakOptions("sum", 0.0), None, "after every frame"),
        (SpeakOptions("sum", 0.0, min_interval=2.0), None, None),
        (SpeakOptions("sum", 12.0), 12, "the informative score of all 12 frames cannot be above 12"),
        (SpeakOptions("sum", 12.0, BOTH), 12, None),
        (SpeakOptions("sum", 12.0), None, None),
        (SpeakOptions("sum", float("inf")), None, "never"),
        (SpeakOptions("never"), None, None),
    ],
)
def test_policies_that_ignore_the_scores_are_found(speak: SpeakOptions, frames: int | None, reason: str | None) -> None:
    found = speak.find_extreme(frames)
    assert found is None if reason is None else reason in (found or "")


@pytest.mark.parametrize("policy", ["threshold:2", "sum:12"])  # of 3 s at 4 fps
def test_run_and_tasks_warn_once(policy: str, mmduet: Command, video: Path) -> None:
    arguments = (*MODEL, "--fps", "4", "--speak", policy)
    for command in (("run", video), ("caption", video), ("ask", video, "--query", "What?")):
        done = mmduet(*command, *arguments)
        assert done.status == 0
        assert done.err.count(f"warning[speak_policy]: --speak {policy} never lets the model speak") == 1
        assert mmduet(*command, *arguments, "--quiet").err == done.err.splitlines()[0] + "\n"


def test_predict_warns(mmduet: Command, video: Path, tmp_path: Path) -> None:
    question = {"question_id": "q", "video": video.name, "answer": [], "conversation": []}
    (tmp_path / "test.json").write_text(json.dumps([question]))
    files = ("--annotations", tmp_path / "test.json", "--videos", video.parent, "--output", tmp_path / "p.jsonl")
    done = mmduet("predict", *files, *MODEL, "--fps", "2", "--speak", "threshold:1")
    assert "warning[speak_policy]: --speak threshold:1 never lets the model speak" in done.err
