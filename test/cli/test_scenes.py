"""``mmduet scenes make`` from the outside: what it writes, and that the same command writes the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmduet.cli.main import app


def rendered(directory: Path, *options: str) -> dict[str, bytes]:
    """Every file that the command leaves under ``directory``."""
    arguments = ["scenes", "make", str(directory), "--count", "1", "--size", "64", "--workers", "1", *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"1 clip in {directory}\n"
    assert "1/1" in done.stderr
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_make_writes_a_clip_and_repeats_itself(tmp_path: Path) -> None:
    first = rendered(tmp_path / "a", "--seed", "7")
    assert len([name for name in first if name.startswith("videos/") and name.endswith(".mp4")]) == 1
    assert rendered(tmp_path / "b", "--seed", "7") == first
    assert rendered(tmp_path / "c", "--seed", "8") != first


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--split", "none"], ["--workers", "-1"]])
def test_make_refuses_what_it_cannot_use(tmp_path: Path, wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["scenes", "make", str(tmp_path / "a"), *wrong]).exit_code == 2
