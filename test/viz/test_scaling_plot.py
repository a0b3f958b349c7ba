"""The plot of a report of ``mmduet bench engine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmduet.errors import OptionError
from mmduet.viz.scaling_plot import save_scaling_plot


def run(streams: int, references: dict[str, Any], *, frame_step: bool = True) -> dict[str, Any]:
    return {
        "streams": streams,
        "frames_per_second": 20.0 * streams,
        "step_ms": {"p50": 10.0, "p99": 20.0},
        "frame_step": {"p50": 10.0, "limit_ms": 2.0} if frame_step else None,
        "references": references,
    }


def report(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"model": "random:tiny", "dtype": "float32", "device_name": "cpu", "runs": list(runs)}


def texts(path: Path, plotted: dict[str, Any]) -> str:
    save_scaling_plot(path, plotted)
    return path.read_text(encoding="utf-8")


def test_plot_shows_the_references_and_the_limit(tmp_path: Path) -> None:
    paper = {"paper": {"frames_per_second": 15.0}}
    svg = texts(tmp_path / "a.svg", report(run(1, paper), run(4, paper)))
    for label in ("engine", "reference: paper", "limit of a step of frames", "random:tiny, float32, cpu"):
        assert f"<!-- {label} -->" in svg
    assert "reference: tight" not in svg


def test_plot_of_runs_without_references_or_speed(tmp_path: Path) -> None:
    svg = texts(tmp_path / "a.svg", report(run(1, {}, frame_step=False), {"streams": 2}))
    assert "<!-- engine -->" in svg
    assert "limit of a step of frames" not in svg


def test_unwritable_file_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        save_scaling_plot(tmp_path / "absent" / "a.svg", report(run(1, {})))
