"""Live figures of a saved model are those of running it on the clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmduet.engine import Engine
from mmduet.errors import OptionError
from mmduet.evaluation.runs.scene_scores import score_scenes
from mmduet.model import load_model
from mmduet.model.adapter_files import update_recommended
from mmduet.scenes import SplitSpec, make_split
from mmduet.training.data_sets import read_data_sets
from mmduet.training.live_validation import LiveValidation
from mmduet.training.recipe import Recipe
from mmduet.training.saving import recommended_for, save_trained
from mmduet.training.trainable import prepare_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:(peft|bitsandbytes)")
LORA: dict[str, Any] = {"kind": "lora", "rank": 2}
FIGURES = {"speak_f1", "speak_precision", "speak_recall", "repeat_rate", "timing_error_seconds", "replies_per_minute"}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "validation"
    make_split(folder, SplitSpec("val", 3, 11, 8.0, 10.0), workers=1)
    return folder


def scenes(split: Path) -> dict[str, Any]:
    return {"name": "validation", "kind": "scenes", "videos": str(split)}


def make_recipe(*validation: dict[str, Any], method: dict[str, Any] = LORA, **settings: Any) -> Recipe:
    data = ({"name": "mine", "kind": "scenes", "videos": "not read"},)
    values = {"method": method, "data": data, "precision": "float32", "validation": {"data": validation}}
    return Recipe.model_validate(values | settings)


def save(directory: Path, recipe: Recipe) -> Path:
    """Save what has not been trained: it replies as its base does."""
    trainable = prepare_model(load_model(recipe.model, "float32", "cpu"), recipe)
    trainable.eval()
    return save_trained(directory, trainable, recommended_for(trainable.network.config, recipe))


def test_figures_on_scenes_are_those_of_the_scenes_measure(split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(scenes(split))
    narrations = [source for source in read_data_sets(recipe.validation.data) if source.sample.kind == "captioning"]
    found = LiveValidation(recipe, narrations, clips=10, device="cpu")(save(tmp_path / "adapter", recipe))
    expected = score_scenes(split, Engine(load_model("nano", "float32", "cpu")))
    assert found.keys() == FIGURES
    assert found["speak_f1"] == pytest.approx(expected.speak_f1)
    assert found["speak_f1"] > 0.5
    assert found["speak_precision"] == pytest.approx(expected.speak_precision)
    assert found["repeat_rate"] == pytest.approx(expected.repeat_rate)
    assert 0 <= found["timing_error_seconds"] <= 1
    assert found["replies_per_minute"] > 0


def test_annotated_replies_are_due_within_their_spans(split: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "captions.json"
    clip = json.loads((split / "clips" / "00000.json").read_text())
    spans = [
        {"time": e["end"] + 0.5, "text": e["text"], "timespan": [e["start"], e["end"] + 1]} for e in clip["events"]
    ]
    annotations.write_text(json.dumps({clip["video"]: {"annotation": spans}}))
    captions = {"name": "c", "kind": "captioning", "annotations": str(annotations), "videos": str(split / "videos")}
    recipe = make_recipe(captions, method={"kind": "full"})
    found = LiveValidation(recipe, read_data_sets(recipe.validation.data), 1, "cpu")(save(tmp_path / "full", recipe))
    assert found["speak_recall"] > 0.5
    assert found["timing_error_seconds"] < 1


def test_the_saved_settings_are_used_and_clips_are_cut(split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(scenes(split), sampling={"max_frames": 8, "max_frames_before_question": 4})
    directory = save(tmp_path / "adapter", recipe)
    validation = LiveValidation(recipe, read_data_sets(recipe.validation.data), 2, "cpu")
    assert len(validation.clips) == 2
    update_recommended(directory, speak="threshold:0", min_interval=0.0)
    assert validation(directory)["replies_per_minute"] > 0
    update_recommended(directory, speak="threshold:1")
    silent = validation(directory)
    assert silent["replies_per_minute"] == silent["speak_recall"] == 0


@pytest.mark.parametrize("method", [{"kind": "qlora", "rank": 2}, {"kind": "heads", "reset": False}])
def test_every_method_can_be_validated(method: dict[str, Any], split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(scenes(split), method=method)
    narrations = [source for source in read_data_sets(recipe.validation.data) if source.sample.kind == "captioning"]
    found = LiveValidation(recipe, narrations, 1, "cpu")(save(tmp_path / "adapter", recipe))
    assert found["speak_recall"] > 0.5


def test_the_choice_of_clips_depends_on_the_seed_only(split: Path) -> None:
    def chosen(seed: int, count: int, backwards: bool = False) -> list[Any]:
        recipe = make_recipe(scenes(split), seed=seed)
        sources = read_data_sets(recipe.validation.data)
        return LiveValidation(recipe, sources[::-1] if backwards else sources, count).clips

    assert chosen(0, 5) == chosen(0, 5, backwards=True)
    assert chosen(0, 5)[:3] == chosen(0, 3)
    assert any(chosen(0, 3) != chosen(seed, 3) for seed in (1, 2, 3))


def test_samples_without_timed_replies_are_rejected(split: Path) -> None:
    recipe = make_recipe(scenes(split))
    sources = [each for each in read_data_sets(recipe.validation.data) if each.sample.kind == "grounding"]
    with pytest.raises(OptionError, match="decode_clips needs validation samples with timed replies"):
        LiveValidation(recipe, sources, 2)
