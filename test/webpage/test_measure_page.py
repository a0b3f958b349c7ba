"""``scripts/measure_page.py`` measures the live page in a browser, keeps what it has measured, and judges it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
slow = pytest.mark.slow  # starts a server and browsers


def start(report: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a measurement that writes ``report``."""
    command = [sys.executable, str(SCRIPTS / "measure_page.py"), *arguments, "--json", str(report)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def measure(report: Path, *arguments: str) -> Any:
    """Run a measurement and return its report."""
    output, _ = start(report, *arguments).communicate()
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["state"] == "finished", output
    return content


@slow
def test_latency_of_a_camera(tmp_path: Path) -> None:
    result = measure(tmp_path / "report.json", "latency", "--seconds", "6", "--warm-up", "1")["result"]
    score, event = result["frame_to_score_ms"], result["frame_to_score_event_ms"]
    assert result["frames"] > 0
    assert event["count"] == result["frames"], "every frame was captured by the browser"
    assert 0 < result["server_part_ms"]["p50"] <= event["p50"] <= score["p50"], "the display comes last"
    assert not result["problems"]
    assert result["cpu_percent_of_a_core"]["server"] > 0
    assert result["cpu_percent_of_a_core"]["browser"] > 0


@slow
@pytest.mark.parametrize("source", ["camera", "clip"])
def test_visitors_are_added_one_by_one(source: str, tmp_path: Path) -> None:
    options = ("--source", source, "--seconds", "3", "--settle", "0", "--max-visitors", "2")
    report = measure(tmp_path / "report.json", "visitors", *options)
    steps = report["samples"]
    assert [step["visitors"] for step in steps] in ([1], [1, 2]), "it ends with a step that exceeds a limit"
    assert all(step["frames"] > 0 for step in steps)
    assert report["result"]["visitors_held"] == sum(not step["exceeded"] for step in steps)
    assert not report["result"]["problems"]


@slow
def test_visitors_come_and_go(tmp_path: Path) -> None:
    options = ("--minutes", "0.5", "--visitors", "2", "--every", "10", "--stay", "4", "10")
    report = measure(tmp_path / "report.json", "soak", *options)
    result, samples = report["result"], report["samples"]
    assert len(samples) >= 3
    assert result["finished_visits"] == result["visits"] >= 2
    assert result["actions"].keys() & {"camera", "clip"}
    assert all(sample["server_mb"] > 0 and sample["page_heap_mb"] > 0 and sample["page_mb"] > 0 for sample in samples)
    assert result["after_all_have_left"] == {"sessions": 1, "files": {}}, "the page that stays has a session"
    assert not result["problems"]


@slow
def test_interrupted_measurement_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    process = start(path, "soak", "--minutes", "10", "--visitors", "1", "--every", "1")
    while process.poll() is None and not (path.exists() and json.loads(path.read_text(encoding="utf-8"))["samples"]):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["state"] == "interrupted", output
    assert report["samples"]
    assert process.returncode == 1
    assert "JavaScript heap" in output


def test_growth_is_judged_from_the_end_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from page_soak import compute_growth, find_faults

    names = ("server_mb", "page_heap_mb", "page_mb")
    samples = [{"seconds": 60 * n, **dict.fromkeys(names, 100 + 10 * min(n, 10))} for n in range(61)]
    steady = {name: compute_growth(samples, name, 600) for name in names}
    assert steady["server_mb"] == {"from": 200, "to": 200, "growth": 0.0}
    assert find_faults(steady, Counter()) == []
    for sample in samples:
        sample["page_heap_mb"] = 10 + 0.02 * sample["seconds"] / 60
    growing = steady | {"page_heap_mb": compute_growth(samples, "page_heap_mb", 600)}
    assert growing["page_heap_mb"]["growth"] == pytest.approx(0.9 / 10.24, abs=0.01)
    (fault,) = find_faults(growing, Counter())
    assert "JavaScript heap" in fault
    assert find_faults(steady, Counter({"console: failed": 2})) == ["2 times: console: failed"]
    assert len(find_faults({name: compute_growth(samples[:11], name, 600) for name in names}, Counter())) == 3
