"""``mmduet bench soak``: a short run by the command line, and detection of every fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Command, in_process
from duet_rig import Rig, frames, lively_model, options

from mmduet.bench.soak import SoakReport, run_soak
from mmduet.engine import Engine
from mmduet.errors import OptionError
from mmduet.options import DecodeOptions, SpeakOptions

FAULTLESS = SoakReport(24.0, 600.0, 172_800, 720, 9000, 500.0, 501.0, 0.1, 8.0, 8.1, 0, 1e-6)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "bench", "soak", "--model", "random:tiny", "--lap-seconds", "10")


def test_a_short_run_reports_its_measurements(bench: Command, tmp_path: Path) -> None:
    done = bench("--hours", "0.45", "--window", "4s", "--json", tmp_path / "soak.json")
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["frames"] == 3240
    assert report["laps"] == 162
    assert report["changed_decisions"] == 0
    assert report["largest_score_change"] < 1e-3
    assert report["last_mb"] > 50
    assert report["late_step_ms"] > 0
    assert "growth_mb_per_hour" in done.out
    assert done.status == bool(report["faults"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--hours", "0.45"), "the window must be at most one lap, 1 to 20 frames, got none"),
        (("--hours", "0.45", "--window", "21"), "the window must be at most one lap, 1 to 20 frames, got 21"),
        (("--hours", "nan", "--window", "8"), "--hours must be a finite number, got nan"),
        (
            ("--hours", "0.1", "--window", "8"),
            "a stream needs at least 3000 frames and three laps of 20, got 720 frames; increase the hours",
        ),
        (("--json", "nowhere/a.json"), "--json nowhere/a.json: the folder nowhere does not exist; create it first"),
    ],
)
def test_invalid_options_are_rejected(bench: Command, arguments: tuple[str, ...], error: str) -> None:
    done = bench(*arguments)
    assert done.status == 2
    assert error in done.err


@pytest.mark.slow
def test_changed_decisions_are_detected() -> None:
    """Replies that are sampled differ from lap to lap."""
    engine = Rig(lively_model())
    session_options = replace(options(0.8, window=4, tokens=2), decode=DecodeOptions(max_new_tokens=2, temperature=1.0))
    lap = [engine.prepare(frame) for frame in frames(10)]
    report = run_soak(engine, lap, session_options, "What?", 2.0, 3000)
    assert report.replies > 300
    assert report.changed_decisions > 100
    assert f"{report.changed_decisions} decisions differed from those of the second lap" in report.faults


@pytest.mark.slow
def test_greedy_decisions_recur() -> None:
    engine = Rig(lively_model())
    lap = [engine.prepare(frame) for frame in frames(40)]
    report = run_soak(engine, lap, options(0.8, window=4, tokens=2), "What?", 2.0, 3000)
    assert report.replies > 300
    assert report.changed_decisions == 0
    assert report.largest_score_change < 1e-4


@pytest.mark.slow
def test_an_interrupted_run_reports_the_frames_so_far() -> None:
    engine = Engine(lively_model())
    lap = [engine.prepare(frame) for frame in frames(10)]

    def interrupt(done: int, total: int) -> None:
        if done == 3000:
            raise KeyboardInterrupt

    assert run_soak(engine, lap, options(window=4), "What?", 2.0, 9000, interrupt).frames == 3000 + 1
    assert not engine.busy


def test_every_fault_is_described() -> None:
    assert FAULTLESS.faults == []
    (growth,) = replace(FAULTLESS, growth_mb_per_hour=1.2, last_mb=528.8).faults
    assert growth == "memory grew by 1.20 MiB per hour, at most 1.0 is expected"
    assert replace(FAULTLESS, growth_mb_per_hour=50.0, last_mb=500.1).faults == []  # a short run: noise
    (change,) = replace(FAULTLESS, largest_score_change=0.01).faults
    assert change == "a score changed by 0.01, at most 0.001 is expected"
    (slowdown,) = replace(FAULTLESS, late_step_ms=9.6).faults
    assert slowdown == "steps became 1.20 times slower"
    (decisions,) = replace(FAULTLESS, changed_decisions=3).faults
    assert decisions == "3 decisions differed from those of the second lap"


def test_a_report_keeps_the_names_of_its_file() -> None:
    assert FAULTLESS.to_dict() == {
        "stream_hours": 24.0,
        "wall_seconds": 600.0,
        "frames": 172_800,
        "laps": 720,
        "replies": 9000,
        "first_mb": 500.0,
        "last_mb": 501.0,
        "growth_mb_per_hour": 0.1,
        "early_step_ms": 8.0,
        "late_step_ms": 8.1,
        "changed_decisions": 0,
        "largest_score_change": 1e-6,
        "faults": [],
    }


def test_a_running_sum_is_rejected() -> None:
    session_options = replace(options(window=4), speak=SpeakOptions("sum", 2.0))
    lap = [None] * 10
    with pytest.raises(
        OptionError, match="the speak policy must not be a running sum, which differs from lap to lap; use a threshold"
    ):
        run_soak(Engine(lively_model()), lap, session_options, "What?", 2.0, 9000)  # type: ignore[arg-type]


@pytest.mark.slow
def test_slow_drift_is_detected() -> None:
    """The model changes a little with every frame: each lap is close to the previous one, but not to the second."""
    engine = Rig(lively_model())
    head = engine.model.network.heads["informative"].weight
    lap = [engine.prepare(frame) for frame in frames(10)]

    def change_model(done: int, total: int) -> None:
        head[1] += 1e-3

    report = run_soak(engine, lap, options(window=4), "What?", 2.0, 3000, change_model)
    assert report.largest_score_change > 1e-3
    assert f"a score changed by {report.largest_score_change:.2g}, at most 0.001 is expected" in report.faults


def test_a_session_without_a_window_is_rejected() -> None:
    with pytest.raises(OptionError, match="the window must be at most one lap, 1 to 10 frames, got none"):
        run_soak(Engine(lively_model()), [None] * 10, options(), "What?", 2.0, 9000)  # type: ignore[list-item]
