"""The benchmark scripts run whole, on scenes with nano, and come to numbers worth having; what is missing is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another checkout, as far as scripts can tell: what they make of themselves stays out of this one."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def run(house: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(house / "scripts" / "inference" / f"{script}.sh")]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, cwd=house.parent
    )


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
def test_a_script_predicts_and_evaluates(script: str, metric: str, least: float, house: Path) -> None:
    done = run(house, script, COUNT="6")
    assert done.returncode == 0, done.stderr
    out = house / "outputs" / script / "nano-scenes-test-6"
    report = json.loads((out / "report.json").read_text())
    assert report["metrics"][metric] >= least
    assert (out / "report.html").stat().st_size > 10_000
    again = run(house, script, COUNT="6")
    assert again.returncode == 0, "a second run goes on where the first ended"


@pytest.mark.slow
def test_a_copy_that_is_not_all_there_is_evaluated_as_far_as_it_goes(house: Path) -> None:
    data = house.parent / "charades"
    made = [house / ".venv/bin/mmduet", "scenes", "make", data, "--split", "test", "--count", "4", "--seed", "5"]
    subprocess.run([*map(str, made)], check=True, capture_output=True)
    (data / "videos" / "00001.mp4").unlink()
    (data / "videos" / "00002.mp4").write_bytes(b"no video")
    done = run(house, "charades", DATA="charades", OUT="found")  # relative to where the script is called
    assert done.returncode == 1
    for name in ("00001.mp4", "00002.mp4"):
        assert name in done.stderr
    report = json.loads((house.parent / "found" / "report.json").read_text())
    questions = json.loads((data / "grounding_test.json").read_text())
    lost = {q["question_id"] for q in questions if q["video"] in ("00001.mp4", "00002.mp4")}
    assert lost
    assert {problem["id"] for problem in report["problems"]} == {str(question) for question in lost}
    assert 0 < report["metrics"]["mIoU"] < 100


def test_who_judges_is_asked_before_anything_is_predicted(house: Path, tmp_path: Path) -> None:
    done = run(house, "magqa", DATA=str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "JUDGE" in done.stderr
    assert "people's words" in done.stderr
