"""The bundled model reaches the documented scores on clips that it was not trained on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mmduet.engine import Engine
from mmduet.evaluation.runs.scene_scores import SceneScores, score_scenes
from mmduet.model import load_model
from mmduet.nano import BUNDLED
from mmduet.scenes import SplitSpec, make_split

MIN_SCORES = {
    "speak_f1": 0.95, "caption_exact": 0.90, "qa_f1": 0.90, "grounding_r1_50": 0.90, "highlight_hit1": 0.90,
}  # fmt: skip
SPLITS = {"short": (60, (10.0, 20.0)), "ten times longer": (5, (115.0, 125.0))}


@cache
def scores(count: int, seed: int, seconds: tuple[float, float]) -> SceneScores:
    with TemporaryDirectory() as folder:
        make_split(folder, SplitSpec("test", count, seed, *seconds))
        return score_scenes(folder, Engine(load_model("nano")))


def test_checkpoint_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in Path(BUNDLED["nano"]).iterdir()) < 25 * 2**20


def test_scores_on_a_few_clips() -> None:
    """With few events the thresholds are lower than in the slow tests."""
    table = scores(4, 501, (10.0, 14.0))
    assert table.speak_f1 >= 0.9
    assert table.repeat_rate <= 0.05
    assert table.caption_exact >= 0.8
    assert table.qa_f1 >= 0.8  # a model that ignores the question stays below 0.5
    assert table.grounding_r1_50 >= 0.8
    assert table.highlight_hit1 >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", MIN_SCORES)
def test_documented_score(split: str, name: str) -> None:
    count, seconds = SPLITS[split]
    assert scores(count, 502, seconds).to_dict()[name] >= MIN_SCORES[name]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("split", SPLITS)
def test_repetitions_are_rare(split: str) -> None:
    count, seconds = SPLITS[split]
    assert scores(count, 502, seconds).repeat_rate <= 0.02
