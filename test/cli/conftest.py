"""Fixtures of the command line tests: a video, rendered clips with annotations, and ``mmduet`` in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import SECONDS, Command, in_process, write_video

from mmduet.annotations.scene_files import read_clips
from mmduet.scenes import SplitSpec, make_split


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", SECONDS)


@pytest.fixture
def mmduet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "run")


@dataclass(frozen=True)
class Clips:
    """Rendered scenes; ``truth`` has their annotations."""

    folder: Path
    truth: list[dict[str, Any]]

    def video(self, k: int) -> Path:
        return self.folder / "videos" / str(self.truth[k]["video"])


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = make_split(tmp_path_factory.mktemp("scenes") / "s", SplitSpec("test", 3, 7, 10.0, 14.0), workers=1)
    return Clips(folder, read_clips(folder))
