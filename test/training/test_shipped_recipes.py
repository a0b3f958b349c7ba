"""Every shipped recipe trains: one step of it on a small model and small data, everything else as it is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mmduet.model import load_model
from mmduet.scenes import SplitSpec, make_split
from mmduet.training.recipe_files import load_recipe, shipped_recipes
from mmduet.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:(peft|bitsandbytes|torch)")
SMALL = (
    "model=random:tiny",
    "optimization.steps=1",
    "optimization.accumulation=1",
    "optimization.workers=0",
    "sampling.max_frames=24",
    "sampling.max_frames_before_question=2",
)
TURNS = [{"from": "human", "value": "<video>\nDescribe the video."}, {"from": "gpt", "value": "A red circle moves."}]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of rendered clips, with conversations about them."""
    folder = tmp_path_factory.mktemp("scenes") / "train"
    make_split(folder, SplitSpec("train", 3, 5), workers=1)
    talks = [
        {"id": path.stem, "video": path.name, "conversations": TURNS} for path in (folder / "videos").glob("*.mp4")
    ]
    (folder / "talks.json").write_text(json.dumps(talks), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_trains(name: str, split: Path, tmp_path: Path) -> None:
    talks = f"kind: conversations, annotations: {split}/talks.json, videos: {split}/videos"
    kind = talks if name == "detailed-summary" else f"kind: scenes, videos: {split}"
    recipe = load_recipe(name, (*SMALL, f"data=[{{name: small, {kind}}}]"))
    result = train(recipe, tmp_path / "run", device="cpu")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["loss"] > 0
    assert name != "detailed-summary" or row["loss"] == row["lm"]
    changed = load_file(next(result.glob("*.safetensors")))
    assert changed
    base, adapter = ("random:tiny", result) if recipe.method.kind != "full" else (result, None)
    assert load_model(base, adapter=adapter).network.config.text.layers == 2
