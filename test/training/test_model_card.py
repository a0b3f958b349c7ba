"""Model cards are valid for the hub, complete, and free of folders of this machine; what they show to run works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.model import load_model
from mmduet.scenes import SplitSpec, make_split
from mmduet.training.model_card import DataSize, write_model_card
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_files import load_recipe, recipe_from_dict, shipped_recipes
from mmduet.training.saving import recommended_for, save_trained
from mmduet.training.trainable import prepare_model

FIGURES = {"loss": 1.25, "speak_f1": 0.875, "informative_pr_auc": 0.5, "my_own": 3.0}
HEADS = {"kind": "heads", "reset": False}


def make_recipe(**settings: Any) -> Recipe:
    data = {
        "name": "doors | gates",
        "kind": "captioning",
        "annotations": "/secret/place/doors.json",
        "videos": "/secret/v",
    }
    values = {
        "method": HEADS,
        "data": [data],
        "precision": "float32",
        "description": "Reports `doors`\n---\nthat open.",
    }
    return Recipe.model_validate(values | settings)


def read_card(directory: Path) -> tuple[str, dict[str, Any]]:
    card = ModelCard.load(directory / "README.md")
    return card.text, card.data.to_dict()


def test_a_card_has_recipe_data_figures_and_usage(tmp_path: Path) -> None:
    sizes = {"doors | gates": DataSize(1200, 340)}
    directory = tmp_path / "doors" / "model"
    directory.mkdir(parents=True)
    path = write_model_card(directory, make_recipe(), FIGURES, "lmms-lab/base@main", sizes=sizes, steps=4000)
    text, head = read_card(directory)
    assert head == {
        "base_model": "lmms-lab/base",
        "base_model_relation": "adapter",
        "library_name": "mmduet",
        "pipeline_tag": "video-text-to-text",
        "tags": ["mmduet", "video", "streaming", "peft", "heads"],
    }
    assert "# license: choose" in path.read_text()
    assert text.strip().startswith("# doors\n")
    assert "Trained in 4,000 steps: only the heads" in text
    assert "| doors \\| gates | training | captioning | 1,200 | 340 | 1 |" in text
    assert "| speak_f1 | 0.875 | F1 of when it replies" in text
    assert "| informative_pr_auc | 0.5 | PR-AUC of the head's scores (informative) |" in text
    assert "| my_own | 3 |  |" in text
    assert "mmduet serve --model DIR" in text
    assert "what it says is as in its base" in text


def test_a_card_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    base = tmp_path / "private" / "base"
    base.mkdir(parents=True)
    recipe = make_recipe(model=str(base))
    text = write_model_card(tmp_path, recipe, {}, str(base)).read_text()
    assert "/secret" not in text
    assert str(tmp_path) not in text
    assert "mmduet run VIDEO.mp4 --model BASE --adapter DIR" in text
    assert "base_model" not in read_card(tmp_path)[1]
    assert "It was not validated." in text


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_has_a_card_with_itself(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    text, head = read_card(write_model_card(tmp_path, recipe, FIGURES, recipe.model).parent)
    assert recipe.method.kind in head["tags"]
    found = re.search(r"```yaml\n(.*)\n```", text, re.DOTALL)
    assert found
    written = recipe_from_dict(yaml.safe_load(found[1]), "the card")
    assert written.model_copy(update={"data": recipe.data, "validation": recipe.validation}) == recipe
    assert [each.name for each in written.data] == [each.name for each in recipe.data]


@given(st.text(max_size=60).filter(lambda text: text.isprintable() and text.strip()))
def test_any_description_and_name_keep_the_card_readable(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    directory = tmp_path_factory.mktemp("card")
    data = [{"name": name, "kind": "scenes", "videos": "v"}]
    recipe = make_recipe(data=data, description=f"```\n{name}\n```")
    text, head = read_card(write_model_card(directory, recipe, {}, "nano").parent)
    assert head["library_name"] == "mmduet"
    rows = [line for line in text.splitlines() if line.endswith("| training | scenes |  |  | 1 |")]
    assert len(rows) == 1


def test_what_the_card_shows_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = make_split(tmp_path / "clips", SplitSpec("test", 1, 3, 5.0, 6.0), workers=1)
    recipe = make_recipe()
    trainable = prepare_model(load_model("nano", "float32", "cpu"), recipe)
    directory = save_trained(tmp_path / "model", trainable, recommended_for(trainable.network.config, recipe))
    text = write_model_card(directory, recipe, FIGURES, "nano").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    video = next((split / "videos").glob("*.mp4"))
    exec(found[1].replace('"DIR"', repr(str(directory))).replace('"VIDEO.mp4"', repr(str(video))), {})
    assert re.match(r"[\d.]+ [\d.]+ \w+", capsys.readouterr().out)


def test_a_card_needs_its_model(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not exist; write the model before its card"):
        write_model_card(tmp_path / "nothing", make_recipe(), {}, "nano")
