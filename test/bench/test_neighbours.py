"""The measurement of a command beside busy processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmduet.bench.neighbours import Slowdown, measure_slowdown
from mmduet.cli.main import app
from mmduet.errors import OptionError


def test_ratios_above_their_limits_are_faults() -> None:
    assert Slowdown(2.0, 1.4, 2.9, 2.1).faults == []
    faults = Slowdown(2.0, 1.6, 2.9, 2.3).faults
    assert [fault.split()[0] for fault in faults] == ["one_neighbour", "two_runs"]


@pytest.mark.slow
def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.mp4"):
        measure_slowdown(tmp_path / "none.mp4", 1, lambda done, total: None)


@pytest.mark.slow
def test_the_command_reports_ratios(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = CliRunner().invoke(app, ["bench", "neighbours", "--runs", "1", "--json", str(report)])
    assert result.exit_code in (0, 1)  # the limits do not hold while other tests run
    figures = json.loads(report.read_text())
    assert figures["quiet_seconds"] > 0.5
    assert all(figures[name] > 0.5 for name in ("one_neighbour", "four_neighbours", "two_runs"))
