"""Runs whose results are committed in ``nano.json``, and the program that writes that file.

Run ``python test/golden/golden_runs.py`` to rewrite the file after a change that is meant to change results.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmduet.cli.main import main

GOLDEN = Path(__file__).with_name("nano.json")
DECIMALS = 5
CLIPS = "scenes make {clips} --split test --count 1 --seed 7 --min-seconds 10 --max-seconds 11"
VIDEO = "{clips}/videos/00000.mp4"
ORANGE = ["--query", "When is something orange in view?"]
ENTERS = ["--query", "Tell me when something enters."]
RUNS: dict[str, list[str]] = {
    "narrate": ["run", VIDEO],
    "query": ["run", VIDEO, *ENTERS],
    "kept replies, small window": ["run", VIDEO, "--keep-replies", "--window", "4"],
    "paper": ["run", VIDEO, "--profile", "paper", "--speak", "sum:2"],
    "sampled": ["run", VIDEO, "--temperature", "0.7", "--seed", "3"],
    "caption": ["caption", VIDEO],
    "ground": ["ground", VIDEO, *ORANGE],
    "ground online": ["ground", VIDEO, *ORANGE, "--online"],
    "highlight": ["highlight", VIDEO, "--top", "2"],
    "ask": ["ask", VIDEO, *ENTERS],
    "predict": ["predict", "--annotations", "{clips}/magqa_test.json", "--videos", "{clips}/videos"],
}


def mmduet(arguments: list[str]) -> None:
    """Run the command line in this process; raise ``RuntimeError`` for an exit status other than 0."""
    with patch.object(sys, "argv", ["mmduet", *arguments]):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"mmduet {' '.join(arguments)}: exit status {end.code}") from None


def results(folder: Path) -> dict[str, Any]:
    """Render the clip in ``folder`` and return what every run writes, without paths."""
    clips = folder / "clips"
    mmduet(CLIPS.format(clips=clips).split())
    return {name: written(name, arguments, folder) for name, arguments in RUNS.items()}


def written(name: str, arguments: list[str], folder: Path) -> Any:
    """Return what one run writes with ``--output``."""
    command = arguments[0]
    output = folder / f"{name.replace(' ', '-')}.{'json' if command not in ('run', 'predict') else 'jsonl'}"
    quiet = [] if command == "predict" else ["--quiet"]
    given = [argument.format(clips=folder / "clips") for argument in arguments]
    mmduet([*given, "--output", str(output), *quiet])
    text = output.read_text(encoding="utf-8")
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    report = json.loads(text)
    for video in report["videos"]:
        video["video"] = Path(video["video"]).name
    return report


def rounded(value: Any) -> Any:
    """Return a JSON value with floats rounded for storage."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def dump(values: dict[str, Any]) -> str:
    """Return the golden file's text: one line per event, so that a change shows as a short diff."""
    parts = []
    for name, value in values.items():
        rows = value if isinstance(value, list) else [value]
        lines = ",\n".join(f"  {json.dumps(rounded(row), ensure_ascii=False)}" for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(dump(results(Path(scratch))), encoding="utf-8")
