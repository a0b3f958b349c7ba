"""``mmduet bench capacity``: the prediction that it prints and writes, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A report whose steps take 10 ms and 10 ms for each stream with a frame, or 1 ms for one with a token."""
    frames = [{"streams": n, "frames": n, "tokens": 50 * n, "seconds": 0.01 + 0.01 * n} for n in (1, 2, 4, 8)]
    tokens = [{"streams": n, "frames": 0, "tokens": n, "seconds": 0.01 + 0.001 * n} for n in (1, 2, 4, 8)]
    path = tmp_path / "steps.json"
    path.write_text(json.dumps({"runs": [{"steps": frames}, {"steps": tokens}]}))
    return path


def test_largest_number_of_streams_is_predicted(mmduet: Command, steps: Path, tmp_path: Path) -> None:
    """Frames need 10 ms each, so 50 streams at 2 fps would use all time."""
    report = tmp_path / "report.json"
    done = mmduet("bench", "capacity", "--steps", steps, "--speak-rate", 0, "--seconds", 20, "--json", report)
    assert done.status == 0
    assert "at most 50 streams by utilization" in done.out
    written = json.loads(report.read_text())
    best = written["predictions"][-1]
    assert f"predicted: {best['streams']} streams at 2 fps" in done.out
    assert 35 <= best["streams"] <= 50
    assert best["latency_p99"] <= written["max_p99"] == 0.5
    assert written["load"]["frame_tokens"] == 50


@pytest.mark.parametrize(("streams", "status"), [(10, 0), (60, 1)])
def test_exit_status_shows_whether_a_number_is_held(mmduet: Command, steps: Path, streams: int, status: int) -> None:
    done = mmduet("bench", "capacity", "--steps", steps, "--streams", streams, "--seconds", 20)
    assert done.status == status
    assert ("not held" in done.out) is bool(status)


def test_other_input_is_an_error(mmduet: Command, steps: Path, tmp_path: Path) -> None:
    missing = mmduet("bench", "capacity", "--steps", tmp_path / "missing.json")
    assert (missing.status, "mmduet bench engine --json" in missing.err) == (2, True)
    assert mmduet("bench", "capacity", "--steps", steps, "--streams", 0).status == 2
    steps.write_text(json.dumps([{"streams": 2, "frames": 1, "tokens": 51, "seconds": 0.1}]))
    assert "--frame-tokens" in mmduet("bench", "capacity", "--steps", steps).err
