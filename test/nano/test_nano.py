"""The bundled model does what the project promises of it, on clips it has never seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.engine import Engine
from mmduet.evaluation.scenes_score import SceneScores, score_scenes
from mmduet.model import load_model
from mmduet.nano import BUNDLED
from mmduet.scenes import SplitSpec, make_split

PROMISES = {
    "speak_f1": 0.95, "caption_exact": 0.90, "qa_f1": 0.90, "grounding_r1_50": 0.90, "highlight_hit1": 0.90,
}  # fmt: skip


def scores(directory: Path, count: int, seed: int, seconds: tuple[float, float]) -> SceneScores:
    make_split(directory, SplitSpec("test", count, seed, *seconds))
    return score_scenes(directory, Engine(load_model("nano")))


def test_it_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in BUNDLED["nano"].iterdir()) < 25 * 2**20


def test_a_few_clips(tmp_path: Path) -> None:
    """Few events, so the bar is lower than the promise; the promise itself is the slow test's."""
    table = scores(tmp_path, 6, 501, (10.0, 16.0))
    assert table.speak_f1 >= 0.85
    assert table.caption_exact >= 0.80
    assert table.qa_f1 >= 0.75


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "seconds"), [(60, (10.0, 20.0)), (5, (115.0, 125.0))], ids=["short", "ten-times-longer"]
)
def test_the_promises(tmp_path: Path, count: int, seconds: tuple[float, float]) -> None:
    table = scores(tmp_path, count, 502, seconds).to_dict()
    short = {name: round(table[name], 3) for name, least in PROMISES.items() if table[name] < least}
    assert not short, f"below what is promised: {short}"
    assert table["repeat_rate"] <= 0.02
