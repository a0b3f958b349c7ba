"""``mmduet train nano`` with few steps: the complete recipe, then again with its files present."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmduet.cli.main import app
from mmduet.errors import TrainingError
from mmduet.model import load_model
from mmduet.model.presets import NANO
from mmduet.recipes.nano.recipe import NanoRecipe, make_nano


def test_the_recipe_runs_and_a_second_run_repeats_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, work = tmp_path / "nano", tmp_path / "work"
    command = [
        "train",
        "nano",
        str(out),
        "--work",
        str(work),
        "--clips",
        "6",
        "--lesson-steps",
        "1",
        "--duet-steps",
        "1",
    ]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    loaded = load_model(str(out))
    assert loaded.config.vision == NANO.vision
    assert (
        loaded.tokenizer.decode(loaded.tokenizer.encode("What does the red circle do?"))
        == "What does the red circle do?"
    )
    weights = (out / "model.safetensors").read_bytes()
    frames = (work / "frames" / "frames.u8").stat().st_mtime_ns
    again = CliRunner().invoke(app, command)  # all stages are complete
    assert again.exit_code == 0, again.output
    assert (work / "frames" / "frames.u8").stat().st_mtime_ns == frames
    assert (out / "model.safetensors").read_bytes() == weights
    duet = (work / "duet" / "state.pt").stat().st_mtime_ns
    recipe = NanoRecipe()
    small = replace(
        recipe,
        clips=6,
        patch_pretraining=replace(recipe.patch_pretraining, steps=1),
        duet=replace(recipe.duet, steps=1),
        refinement=replace(recipe.refinement, steps=1, lr=2 * recipe.refinement.lr),
    )
    with pytest.raises(TrainingError, match=r"refine.*another recipe"):
        make_nano(out, work, small, lambda *_, **__: None)
    shutil.rmtree(work / "refine")
    make_nano(out, work, small, lambda *_, **__: None)  # another refinement of the same duet
    assert (work / "duet" / "state.pt").stat().st_mtime_ns == duet
    assert (out / "model.safetensors").read_bytes() != weights
