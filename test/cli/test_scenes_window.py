"""``mmduet scenes window`` on one clip: one row per window, as a table, JSON and a plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command, in_process
from PIL import Image

from mmduet.scenes import SplitSpec, make_split


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    make_split(folder, SplitSpec("test", 1, 11, 10.0, 10.5), workers=1)
    return folder


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "scenes", "window")


@pytest.mark.slow
def test_every_window_gives_a_row(window: Command, split: Path, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "rows.json", "--plot", tmp_path / "rows.png")
    done = window(split, "--windows", "2, 2s,none", *files)
    assert done.status == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["window"] for row in rows] == [2, 8, None]
    assert rows[0]["stream_bytes"] < rows[1]["stream_bytes"] < rows[2]["stream_bytes"]
    assert [line.split(" | ")[0] for line in done.lines] == ["| frames in view", "| ---", "| 2", "| 8", "| all"]
    assert f"{rows[1]['speak_f1']:.3f}" in done.lines[3]
    with Image.open(tmp_path / "rows.png") as image:
        assert image.width > 900


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--windows", "wide"), "wide"),
        (("--windows", "5000"), "smaller window"),
        (("--plot", "nowhere/a.png"), "--plot nowhere/a.png: the folder nowhere does not exist; create it first"),
        (("--plot", "a.bmp"), "--plot a.bmp has an unsupported file type; use .png, .pdf, .svg"),
    ],
)
def test_invalid_options_are_rejected(window: Command, split: Path, arguments: tuple[str, ...], error: str) -> None:
    done = window(split, *arguments)
    assert done.status == 2
    assert error in done.err
