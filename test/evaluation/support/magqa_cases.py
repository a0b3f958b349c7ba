"""Three MAGQA questions with predictions and grades, and their evaluation from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from judges import ScriptedJudge, gold_entry, prediction_line, write_json_file, write_json_lines, write_prompt

from mmduet.evaluation.benchmarks import magqa
from mmduet.evaluation.report import Report

# One question with two gold answers. "x" is at both ends of the first span, "y" in none, "z" in the second.
GOLD = [
    gold_entry("q1", ([0, 4], "a"), ([6, 10], "b")),
    gold_entry("q2", ([0, 10], "a"), ([20, 30], "c")),
    gold_entry("q3", ([5, 6], "d")),
]
PREDICTIONS = [
    prediction_line("q1", (0.0, "x"), (4.0, "x"), (5.0, "y"), (8.0, "z")),
    prediction_line("q2", (3.0, "x"), (5.0, "w")),
    prediction_line("q3"),
]
GRADES = {"what?|a|x": "5", "what?|b|z": "2", "what?|a|w": "3"}
# q1: ((5 + 5)/2 + 2)/2 = 3.5; q2: ((5 + 3)/2 + 1)/2 = 2.5, no reply in 20..30; q3: no replies
Q1, Q2 = 3.5, 2.5


def files(tmp_path: Path, predictions: list[Any] | None = None, gold: list[Any] | None = None) -> tuple[Path, Path]:
    return (
        write_json_lines(tmp_path / "predictions.jsonl", PREDICTIONS if predictions is None else predictions),
        write_json_file(tmp_path / "gold.json", GOLD if gold is None else gold),
    )


def evaluate(
    tmp_path: Path, judge: ScriptedJudge | None = None, predictions: Any = None, gold: Any = None, **options: Any
) -> Report:
    judge = judge or ScriptedJudge(GRADES)
    return magqa.evaluate(*files(tmp_path, predictions, gold), judge=judge, prompt=write_prompt(tmp_path), **options)
