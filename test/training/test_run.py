"""A whole training run: its files, exact resumption, refusals, bad samples and failing steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk
from safetensors.torch import load_file

from mmduet.errors import OptionError, TrainingError
from mmduet.model import load_model
from mmduet.scenes import SplitSpec, make_split
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_files import load_recipe
from mmduet.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:(peft|bitsandbytes|torch)")
LORA = {"kind": "lora", "rank": 2, "alpha": 4.0, "dropout": 0.1}


class Interruption(BaseException):
    """Ends a run at once, as a signal does."""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "train"
    make_split(folder, SplitSpec("train", 4, 5), workers=1)
    return folder


def make_recipe(split: Path, **sections: Any) -> Recipe:
    optimization = {
        "steps": 5, "save_every": 2, "workers": 0, "accumulation": 2, "max_samples_per_batch": 2, "learning_rate": 1e-2,
        "max_tokens_per_batch": 4096,
    } | sections.pop("optimization", {})  # fmt: skip
    values: dict[str, Any] = {
        "model": "random:tiny",
        "method": LORA,
        "data": [{"name": "scenes", "kind": "scenes", "videos": str(split)}],
        "sampling": {"fps": 1.0, "max_frames": 6, "max_frames_before_question": 2},
        "precision": "float32",
        "optimization": optimization,
    }
    return Recipe.model_validate(values | sections)


def interrupt_at(last: int) -> Any:
    def progress(stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        if stage == "steps" and done == last:
            raise Interruption

    return progress


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "adapter_model.safetensors")


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_gives_the_weights_of_an_uninterrupted_one(
    split: Path, tmp_path: Path, workers: int
) -> None:
    recipe = make_recipe(split, optimization={"ema": 0.9, "workers": workers})
    whole = train(recipe, tmp_path / "whole", device="cpu").parent
    with pytest.raises(Interruption):
        train(recipe, tmp_path / "parts", device="cpu", progress=interrupt_at(3))
    incomplete = tmp_path / "parts" / "state" / "checkpoint-4"
    incomplete.mkdir()
    (incomplete / "trainer_state.json").write_text('{"global_step": 4')
    parts = train(recipe, tmp_path / "parts", device="cpu", resume=True).parent
    expected, found = weights(whole), weights(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [row["step"] for row in rows(parts)] == [1, 2, 3, 4, 5]
    for name in ("loss", "grad_norm", "learning_rate", "tokens", "samples"):
        assert [row[name] for row in rows(whole)] == [row[name] for row in rows(parts)]
    assert load_recipe(whole / "recipe.yaml") == recipe
    saved = load_file(whole / "state" / "checkpoint-5" / "trained.safetensors")
    assert all("lora" in name or name.startswith(("heads", "projector")) for name in saved)
    assert rows(whole)[-1]["informative_pr_auc"] > 0
    assert load_model("random:tiny", adapter=whole / "model").network is not None


def test_a_directory_in_use_is_refused(split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(split, optimization={"steps": 1})
    train(recipe, tmp_path, device="cpu")
    with pytest.raises(OptionError, match="is not empty; resume its run with --resume"):
        train(recipe, tmp_path, device="cpu")
    other = make_recipe(split, optimization={"steps": 1, "learning_rate": 0.5}, seed=1)
    with pytest.raises(TrainingError, match=r"optimization\.learning_rate \(0\.01, now 0\.5\), seed \(0, now 1\)"):
        train(other, tmp_path, device="cpu", resume=True)
    assert train(recipe, tmp_path, device="cpu", resume=True) == tmp_path / "model"


def test_a_run_on_a_full_disk_can_be_resumed(split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(split, optimization={"steps": 3})
    reported = []
    with full_disk(15_000), pytest.raises(OptionError, match=r"state.* cannot be written"):
        train(recipe, tmp_path, device="cpu", progress=lambda stage, done, *_: reported.append((stage, done)))
    assert reported[-1] == ("steps", 2)
    train(recipe, tmp_path, device="cpu", resume=True)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_a_failing_step_is_named(split: Path, tmp_path: Path) -> None:
    huge = make_recipe(split, optimization={"learning_rate": 1e30, "warmup": 0})
    with pytest.raises(TrainingError, match=r"step \d failed.*(loss is|norm of the gradients is) (nan|inf)"):
        train(huge, tmp_path / "huge", device="cpu")


def test_bad_samples_are_skipped_within_the_allowed_share(split: Path, tmp_path: Path) -> None:
    annotations, videos = tmp_path / "captions.json", split / "videos"
    first, second, *_ = sorted(path.name for path in videos.glob("*.mp4"))
    reply = {"time": 2.0, "text": "x", "timespan": [0.5, 2.0]}
    annotations.write_text(
        json.dumps({name: {"annotation": [reply]} for name in (first, second, "missing.mp4")}), encoding="utf-8"
    )
    data = [{"name": "mine", "kind": "captioning", "annotations": str(annotations), "videos": str(videos)}]
    with pytest.raises(TrainingError, match=r"1 of 3 samples cannot be trained on.*mine/2.*missing\.mp4"):
        train(make_recipe(split, data=data), tmp_path / "strict", device="cpu")
    output = train(
        make_recipe(split, data=data, optimization={"max_bad_fraction": 0.4, "steps": 2}),
        tmp_path / "lenient",
        device="cpu",
    ).parent
    assert [row["bad_sample"] for row in rows(output) if "bad_sample" in row] == ["mine/2"]
    assert json.loads((output / "model" / "mmduet.json").read_text())["training"]["bad_samples"] == 1


def test_samples_without_a_label_that_counts_are_refused_by_name(split: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "talks.json"
    video = next((split / "videos").glob("*.mp4")).name
    turns = [{"from": "human", "value": "<video>\nWhat happens?"}, {"from": "gpt", "value": "A circle moves."}]
    annotations.write_text(json.dumps([{"id": "a", "video": video, "conversations": turns}]), encoding="utf-8")
    data = [
        {"name": "talks", "kind": "conversations", "annotations": str(annotations), "videos": str(split / "videos")}
    ]
    recipe = make_recipe(split, data=data, losses={"lm": 0.0})
    with pytest.raises(TrainingError, match=r"step 1 failed with the samples talks/.*no labels"):
        train(recipe, tmp_path / "run", device="cpu")


def test_validation_measures_held_out_samples_and_does_not_change_the_training(split: Path, tmp_path: Path) -> None:
    recipe = make_recipe(split, validation={"share": 0.25, "every": 2, "decode_clips": 1})
    output = train(recipe, tmp_path / "own", device="cpu").parent
    train(recipe, tmp_path / "none", device="cpu", on_validation=lambda step: {})
    found = [row for row in rows(output) if "validation/loss" in row]
    assert [row["step"] for row in found] == [2, 4, 5]
    assert {"validation/lm", "validation/informative_pr_auc", "validation/speak_f1"} <= found[-1].keys()
    assert found[0]["validation/loss"] != found[-1]["validation/loss"]
    card = (output / "model" / "README.md").read_text()
    assert f"| loss | {found[-1]['validation/loss']:.4g} |" in card
    one, two = (load_file(tmp_path / name / "model" / "adapter_model.safetensors") for name in ("own", "none"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_validation_data_of_its_own_is_used(split: Path, tmp_path: Path) -> None:
    data = [{"name": "held-out", "kind": "scenes", "videos": str(split)}]
    recipe = make_recipe(split, validation={"data": data, "max_samples": 3}, optimization={"steps": 1})
    output = train(recipe, tmp_path, device="cpu").parent
    assert "validation/loss" in rows(output)[-1]


def test_training_stops_when_validation_does_not_improve(split: Path, tmp_path: Path) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    recipe = make_recipe(split, validation={"share": 0.25, "every": 1, "patience": 2})
    output = train(recipe, tmp_path, device="cpu", on_validation=lambda step: {"loss": next(losses)}).parent
    assert [row["validation/loss"] for row in rows(output) if "validation/loss" in row] == [3.0, 2.0, 2.5, 2.0]
    assert (output / "state" / "checkpoint-4").is_dir()
