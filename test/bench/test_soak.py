"""``mmduet bench soak``: a short one through the command line, and that it would see what it looks for."""

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

HEALTHY = SoakReport(24.0, 600.0, 172_800, 720, 9000, 500.0, 501.0, 0.1, 8.0, 8.1, 0, 1e-6)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "bench", "soak", "--model", "random:tiny", "--lap-seconds", "10")


def test_a_short_soak(bench: Command, tmp_path: Path) -> None:
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
    ("arguments", "words"),
    [
        (("--hours", "0.45"), "the window is none; give one of 1 to 20"),
        (("--hours", "0.45", "--window", "21"), "the window is 21; give one of 1 to 20"),
        (("--hours", "nan", "--window", "8"), "hours is nan"),
        (("--hours", "0.1", "--window", "8"), "too short"),
        (("--json", "nowhere/a.json"), "nowhere"),
    ],
)
def test_what_cannot_be_measured(bench: Command, arguments: tuple[str, ...], words: str) -> None:
    done = bench(*arguments)
    assert done.status == 2
    assert words in done.err


@pytest.mark.slow
def test_other_decisions_are_seen() -> None:
    """Replies drawn by chance differ from lap to lap."""
    engine = Rig(lively_model())
    given = replace(options(0.8, window=4, tokens=2), decode=DecodeOptions(max_new_tokens=2, temperature=1.0))
    lap = [engine.prepare(frame) for frame in frames(10)]
    report = run_soak(engine, lap, given, "What?", 2.0, 3000)
    assert report.replies > 300
    assert report.changed_decisions > 100
    assert "decisions were others" in " ".join(report.faults)


@pytest.mark.slow
def test_greedy_decisions_recur() -> None:
    engine = Rig(lively_model())
    lap = [engine.prepare(frame) for frame in frames(40)]
    report = run_soak(engine, lap, options(0.8, window=4, tokens=2), "What?", 2.0, 3000)
    assert report.replies > 300
    assert report.changed_decisions == 0
    assert report.largest_score_change < 1e-4


def test_an_interrupted_soak_tells_what_it_has() -> None:
    engine = Engine(lively_model())
    lap = [engine.prepare(frame) for frame in frames(10)]

    def interrupt(done: int, total: int) -> None:
        if done == 3500:
            raise KeyboardInterrupt

    assert run_soak(engine, lap, options(window=4), "What?", 2.0, 9000, interrupt).frames == 3500 + 1
    assert not engine.busy


def test_faults_are_named() -> None:
    assert HEALTHY.faults == []
    (grown,) = replace(HEALTHY, growth_mb_per_hour=1.2, last_mb=528.8).faults
    assert "memory grew by 1.20 MB an hour" in grown
    assert replace(HEALTHY, growth_mb_per_hour=50.0, last_mb=500.1).faults == []  # of a minute: noise
    (moved,) = replace(HEALTHY, largest_score_change=0.01).faults
    assert "a score moved by 0.01" in moved
    (slow,) = replace(HEALTHY, late_step_ms=9.6).faults
    assert "1.20 times slower" in slow


def test_a_running_sum_is_refused() -> None:
    given = replace(options(window=4), speak=SpeakOptions("sum", 2.0))
    lap = [None] * 10
    with pytest.raises(OptionError, match="under a running sum"):
        run_soak(Engine(lively_model()), lap, given, "What?", 2.0, 9000)  # type: ignore[arg-type]


@pytest.mark.slow
def test_slow_drift_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that changes by a little every frame: no lap is far from the one before, the last is far from the second."""
    engine = Rig(lively_model())
    head = engine.model.network.heads["informative"].weight
    lap = [engine.prepare(frame) for frame in frames(10)]

    def wear(done: int, total: int) -> None:
        head[1] += 1e-3

    report = run_soak(engine, lap, options(window=4), "What?", 2.0, 3000, wear)
    assert report.largest_score_change > 1e-3
    assert "a score moved" in " ".join(report.faults)


def test_a_stream_without_a_window_is_refused() -> None:
    with pytest.raises(OptionError, match="the window is none"):
        run_soak(Engine(lively_model()), [], options(), "What?", 2.0, 9000)
