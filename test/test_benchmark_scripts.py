"""The benchmark scripts run whole, on scenes with nano, and come to numbers worth having."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "metric", "least"),
    [
        ("youcook2", "F1", 45.0),
        ("charades", "R1@0.5", 80.0),
        ("qvh", "HL-min-VeryGood-Hit1", 80.0),
        ("magqa", "in_span", 4.0),
    ],
)
def test_a_script_predicts_and_evaluates(
    script: str, metric: str, least: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.getbasetemp() / "scenes"
    data.mkdir(exist_ok=True)
    (data / ".scenes").touch()
    out = tmp_path_factory.mktemp(script)
    variables = {**os.environ, "DATA": str(data), "OUT": str(out), "COUNT": "6"}
    command = ["bash", str(ROOT / "scripts" / "inference" / f"{script}.sh")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["metrics"][metric] >= least
    assert (out / "report.html").stat().st_size > 10_000
    again = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert again.returncode == 0, "a second run goes on where the first ended"
