"""The plot of a calibration."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.errors import OptionError
from mmduet.viz.calibration_plot import CalibrationCurve, OperatingPoint, save_calibration_plot

CURVE = CalibrationCurve("threshold", [0.1, 0.5, 0.9], [0.4, 0.8, float("nan")], [1.0, 0.7, 0.0], [0.57, 0.75, 0.0])
CHOSEN = OperatingPoint("chosen: threshold:0.5, F1 0.750", 0.8, 0.7, 0.5)


def texts(path: Path, curve: CalibrationCurve, previous: OperatingPoint) -> str:
    save_calibration_plot(path, "nano, 3 streams of val", curve, CHOSEN, previous)
    return path.read_text(encoding="utf-8")


def test_plot_shows_both_policies_and_the_curves(tmp_path: Path) -> None:
    svg = texts(tmp_path / "a.svg", CURVE, OperatingPoint("before: threshold:0.1, F1 0.570", 0.4, 1.0, 0.1))
    for label in ("nano, 3 streams of val", "chosen: threshold:0.5, F1 0.750", "before: threshold:0.1, F1 0.570"):
        assert f"<!-- {label} -->" in svg
    for label in ("before: 0.1", "chosen: 0.5", "precision", "recall", "F1", "value of the policy threshold"):
        assert f"<!-- {label} -->" in svg


def test_a_policy_off_the_curve_has_no_line(tmp_path: Path) -> None:
    sums = CalibrationCurve("sum", CURVE.values, CURVE.precision, CURVE.recall, CURVE.f1)
    svg = texts(tmp_path / "a.svg", sums, OperatingPoint("before: threshold:0.1, F1 0.570", 0.4, 1.0))
    assert "<!-- before: 0.1 -->" not in svg
    assert "<!-- chosen: 0.5 -->" in svg
    assert "<!-- value of the policy sum -->" in svg


def test_unwritable_file_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        texts(tmp_path / "absent" / "a.svg", CURVE, CHOSEN)
