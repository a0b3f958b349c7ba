"""The benchmark scripts run completely on scenes with nano and reach good scores; missing videos are reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the scripts in another folder, so that their output does not end up in this checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def run(checkout: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(checkout / "scripts" / "inference" / f"{script}.sh")]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, cwd=checkout.parent
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "metric", "minimum"),
    [
        ("youcook2", "F1", 45.0),
        ("charades", "R1@0.5", 80.0),
        ("qvh", "HL-min-VeryGood-Hit1", 80.0),
        ("magqa", "in_span", 4.0),
    ],
)
def test_script_predicts_and_evaluates(script: str, metric: str, minimum: float, checkout: Path) -> None:
    done = run(checkout, script, COUNT="6")
    assert done.returncode == 0, done.stderr
    out = checkout / "outputs" / script / "nano-scenes-test-6"
    report = json.loads((out / "report.json").read_text())
    assert report["metrics"][metric] >= minimum
    assert (out / "report.html").stat().st_size > 10_000
    again = run(checkout, script, COUNT="6")
    assert again.returncode == 0, "the second run resumes the first"


@pytest.mark.slow
def test_incomplete_dataset_is_evaluated_with_status_1(checkout: Path) -> None:
    data = checkout.parent / "charades"
    made = [checkout / ".venv/bin/mmduet", "scenes", "make", data, "--split", "test", "--count", "4", "--seed", "5"]
    subprocess.run([*map(str, made)], check=True, capture_output=True)
    (data / "videos" / "00001.mp4").unlink()
    (data / "videos" / "00002.mp4").write_bytes(b"not a video")
    done = run(checkout, "charades", DATA="charades", OUT="found")  # relative to the calling directory
    assert done.returncode == 1
    for name in ("00001.mp4", "00002.mp4"):
        assert name in done.stderr
    report = json.loads((checkout.parent / "found" / "report.json").read_text())
    questions = json.loads((data / "grounding_test.json").read_text())
    affected = {q["question_id"] for q in questions if q["video"] in ("00001.mp4", "00002.mp4")}
    assert affected
    assert {problem["id"] for problem in report["problems"]} == {str(question) for question in affected}
    assert 0 < report["metrics"]["mIoU"] < 100


def test_missing_judge_is_reported_before_prediction(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, "magqa", DATA=str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "JUDGE" in done.stderr
    assert "free-form answers need a judge" in done.stderr
