"""``mmduet scenes make``: the files that it writes, and their reproducibility."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmduet.cli.main import app


def render(directory: Path, *options: str) -> dict[str, bytes]:
    """Run the command and return the contents of every file under ``directory``."""
    arguments = ["scenes", "make", str(directory), "--count", "1", "--size", "64", "--workers", "1", *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"1 clip in {directory}\n"
    assert "1/1" in done.stderr
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_equal_seeds_give_equal_clips(tmp_path: Path) -> None:
    first = render(tmp_path / "a", "--seed", "7")
    assert len([name for name in first if name.startswith("videos/") and name.endswith(".mp4")]) == 1
    assert render(tmp_path / "b", "--seed", "7") == first
    assert render(tmp_path / "c", "--seed", "8") != first


@pytest.mark.parametrize("options", [["--count", "0"], ["--split", "none"], ["--workers", "-1"]])
def test_invalid_options_are_rejected(tmp_path: Path, options: list[str]) -> None:
    assert CliRunner().invoke(app, ["scenes", "make", str(tmp_path / "a"), *options]).exit_code == 2
