"""A prepared model trains exactly what its method names, and what is saved computes what was trained."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from duet_rig import Rig, frames, options
from llava import random_llava, transformers_layout
from peft import PeftModel
from small_samples import CAPTIONS, GROUNDING, images, make_sequence
from torch import Tensor

from mmduet.duet import SYSTEM_PROMPT
from mmduet.errors import CheckpointError, OptionError, TrainingError
from mmduet.events import Query, Scores
from mmduet.model import LoadedModel, load_model
from mmduet.model.adapter_files import read_recommended, update_recommended
from mmduet.model.network import DuetModel
from mmduet.training.autocast import autocast
from mmduet.training.branch_attention import use_branch_attention
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import combine, duet_parts, forward_hidden
from mmduet.training.recipe import Recipe
from mmduet.training.saving import recommended_for, save_trained
from mmduet.training.trainable import TrainableModel, check_trained_parameters, expected_trainable, prepare_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:(peft|bitsandbytes)")
LORA: dict[str, Any] = {"kind": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0}
METHODS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "lora of two layers": LORA | {"targets": ("q_proj", "down_proj"), "saved_modules": ("heads",)},
    "qlora": LORA | {"kind": "qlora"},
    "full": {"kind": "full"},
    "full with tower": {"kind": "full", "train_tower": True},
    "heads": {"kind": "heads"},
}


def make_recipe(method: dict[str, Any], model: str = "random:tiny", **settings: Any) -> Recipe:
    data = ({"name": "mine", "kind": "scenes", "videos": "videos"},)
    return Recipe.model_validate({"model": model, "method": method, "data": data, "precision": "float32"} | settings)


def prepared(method: str, model: str = "random:tiny", **settings: Any) -> TrainableModel:
    loaded = load_model(model, "float32", "cpu", allow_missing_heads=True)
    return prepare_model(loaded, make_recipe(METHODS[method], model, **settings))


def make_batch(network: DuetModel) -> Batch:
    """Return a captioning and a grounding sample, so that both heads have labels."""
    tokens, size = network.config.frame_tokens, network.config.vision.image_size
    sequences = [make_sequence(sample, frame_tokens=tokens) for sample in (CAPTIONS, GROUNDING)]
    return collate(sequences, [images(size), images(size, seed=1)], dense_mask=False)


def train(trainable: TrainableModel, steps: int = 2) -> list[float]:
    """Take steps; after the first one, LoRA's first matrix is as it was, because the second one is zero at the beginning."""
    network, losses = trainable.network, []
    optimizer = torch.optim.AdamW([p for _, p in trainable.named_trained()], lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        with autocast(network.device) if trainable.recipe.precision == "bfloat16" else nullcontext():
            parts = duet_parts(network, make_batch(network), forward_hidden(network, make_batch(network)))
        assert parts.keys() == {"lm", "informative", "relevance"}
        loss = combine(parts)
        loss.total.backward()
        for name in network.heads:
            assert network.heads[name].weight.grad.abs().max() > 0
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.total.detach()))
    return losses


@torch.no_grad()
def outputs(model: DuetModel) -> tuple[Tensor, Tensor]:
    """Return the scores of all frames, and the logits of the last token of each sample."""
    model.eval()
    use_branch_attention(model.lm)
    batch = make_batch(model)
    hidden = forward_hidden(model, batch)
    rows = torch.arange(len(hidden))[:, None]
    return model.score(hidden[rows, batch.frame_ends].flatten(0, 1)), model.lm_head(hidden[:, batch.frame_ends[0, -1]])


def check_same_outputs(found: DuetModel, expected: DuetModel) -> None:
    for ours, theirs in zip(outputs(found), outputs(expected), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def save(directory: Path, trainable: TrainableModel) -> Path:
    return save_trained(directory, trainable, recommended_for(trainable.network.config, trainable.recipe))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small LLaVA-OneVision checkpoint, which has no heads."""
    return transformers_layout(random_llava(), tmp_path_factory.mktemp("base") / "llava")


@pytest.mark.parametrize("method", METHODS)
def test_every_trained_parameter_changes_and_nothing_else(method: str) -> None:
    trainable = prepared(method, gradient_checkpointing=method == "lora")
    before = {name: p.detach().clone() for name, p in trainable.network.named_parameters()}
    trained = {name for name, _ in trainable.named_trained()}
    assert trained == expected_trainable(trainable.recipe, trainable.network)
    losses = train(trainable)
    assert losses[1] < losses[0]
    changed = {name for name, p in trainable.network.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trained


def test_the_trained_parameters_are_those_of_the_recipe() -> None:
    names = expected_trainable(make_recipe(METHODS["lora of two layers"]), load_model("random:tiny").network)
    assert sorted(names) == [
        "heads.informative.weight",
        "heads.relevance.weight",
        *(
            f"lm.layers.{layer}.{path}.lora_{side}.default.weight"
            for layer in (0, 1)
            for path in ("mlp.down_proj", "self_attn.q_proj")
            for side in "AB"
        ),
    ]
    assert len(expected_trainable(make_recipe(METHODS["lora"]), load_model("random:tiny").network)) == 2 * 7 * 2 + 6


@pytest.mark.parametrize(
    ("name", "requires_grad", "message"),
    [
        ("heads.relevance.weight", False, r"it lacks heads\.relevance\.weight; use another method"),
        ("lm.norm.weight", True, r"it also has lm\.norm\.weight; use another method"),
    ],
)
def test_other_trained_parameters_are_an_error(name: str, requires_grad: bool, message: str) -> None:
    trainable = prepared("heads")
    trainable.network.get_parameter(name).requires_grad_(requires_grad)
    with pytest.raises(TrainingError, match=message):
        check_trained_parameters(trainable.network, expected_trainable(trainable.recipe, trainable.network))


@pytest.mark.parametrize("method", ["lora", "full", "heads"])
def test_trained_weights_are_float32_on_a_bfloat16_base(method: str) -> None:
    recipe = make_recipe(METHODS[method], precision="bfloat16")
    trainable = prepare_model(load_model("random:tiny", "bfloat16", "cpu"), recipe)
    assert {p.dtype for _, p in trainable.named_trained()} == {torch.float32}
    assert {p.dtype for p in trainable.network.tower.parameters()} == {torch.bfloat16}
    losses = train(trainable, steps=3)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", ["lora", "lora of two layers", "heads", "full", "full with tower"])
def test_the_saved_model_computes_what_was_trained(method: str, base: Path, tmp_path: Path) -> None:
    trainable = prepared(method, str(base))
    train(trainable)
    saved = save(tmp_path / "trained", trainable)
    loaded = load_model(saved)  # an adapter brings its base
    check_same_outputs(loaded.network, trainable.network)
    with pytest.raises(AssertionError):
        check_same_outputs(prepared("heads", str(base)).network, trainable.network)


@pytest.mark.parametrize("method", ["lora", "lora of two layers", "heads"])
def test_peft_reads_a_saved_adapter(method: str, tmp_path: Path) -> None:
    trainable = prepared(method)
    train(trainable)
    saved = save(tmp_path / "trained", trainable)
    theirs = PeftModel.from_pretrained(load_model("random:tiny").network, saved).get_base_model()
    check_same_outputs(theirs, trainable.network)


def test_a_saved_adapter_stays_apart_from_its_base(tmp_path: Path) -> None:
    trainable = prepared("lora")
    train(trainable)
    both = load_model("random:tiny", adapters={"mine": save(tmp_path / "trained", trainable)})
    assert both.adapters is not None
    assert both.adapters.names == ("mine",)


def test_qlora_trains_after_a_forward_pass_without_gradients(base: Path, tmp_path: Path) -> None:
    """With AVX512-BF16, bitsandbytes rearranges quantised weights in such a pass, unless that is turned off."""
    trainable = prepared("qlora", str(base))
    layers = [m for m in trainable.network.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert len(layers) == 2 * 7
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    before = outputs(trainable.network)
    trainable.train()
    losses = train(trainable, steps=4)
    assert losses[-1] < losses[0]
    after = outputs(trainable.network)
    assert (after[0] - before[0]).abs().max() > 1e-3
    saved = save(tmp_path / "trained", trainable)
    loaded = load_model(str(base), adapters={"mine": saved}, quantized="nf4")
    assert loaded.adapters is not None
    assert load_model(saved).network.heads.informative.weight.equal(trainable.network.heads.informative.weight)


def engine_scores(model: LoadedModel, **settings: Any) -> Tensor:
    """Return the scores of a short stream, as the engine computes them."""
    rig = Rig(model)
    session = rig.open(options(**settings))
    rig.push(session, Query("Narrate."))
    for frame in frames(3):
        rig.push(session, frame)
    found = [output for output in rig.run(session) if isinstance(output, Scores)]
    return torch.tensor([[scores.informative, scores.relevance] for scores in found])


@pytest.mark.parametrize("method", ["lora", "lora of two layers", "qlora", "full", "heads"])
def test_the_engine_scores_with_a_model_that_is_being_trained(method: str, base: Path, tmp_path: Path) -> None:
    trainable = prepared(method, str(base))
    untrained = engine_scores(trainable.loaded)
    trainable.train()
    train(trainable)
    scores = engine_scores(trainable.loaded)
    assert (scores - untrained).abs().max() > 1e-3
    saved = save(tmp_path / "trained", trainable)
    if method == "qlora":
        served = load_model(str(base), adapters={"mine": saved}, quantized="nf4")
        torch.testing.assert_close(engine_scores(served, adapter="mine"), scores, atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(engine_scores(load_model(saved)), scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "heads"])
def test_the_engine_scores_with_trained_float32_parts_of_a_bfloat16_model(method: str) -> None:
    recipe = make_recipe(METHODS[method], precision="bfloat16")
    scores = engine_scores(prepare_model(load_model("random:tiny", "bfloat16", "cpu"), recipe).loaded)
    assert scores.shape == (3, 2)
    assert scores.isfinite().all()


def test_heads_of_a_base_without_heads_depend_on_the_seed(base: Path) -> None:
    first, same, other = (prepared("lora", str(base), seed=seed).trained_state() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    assert all(tensor.isfinite().all() for tensor in first.values())
    for name in ("heads.informative.weight", "lm.layers.0.self_attn.q_proj.lora_A.default.weight"):
        assert not torch.equal(first[name], other[name])
    loaded = load_model(str(base), allow_missing_heads=True)
    with pytest.raises(TrainingError, match="has no heads, and the recipe trains none; add heads"):
        prepare_model(loaded, make_recipe(LORA | {"saved_modules": ("projector",)}, str(base)))


def test_heads_are_kept_or_reset() -> None:
    own = load_model("random:tiny").network.heads.informative.weight
    kept = prepare_model(load_model("random:tiny"), make_recipe({"kind": "heads", "reset": False}))
    assert torch.equal(kept.network.heads.informative.weight, own)
    assert not torch.equal(prepared("heads").network.heads.informative.weight, own)


def test_a_saved_state_restores_what_was_trained() -> None:
    trainable, fresh = prepared("lora"), prepared("lora")
    train(trainable)
    fresh.load_trained_state({name: tensor.clone() for name, tensor in trainable.trained_state().items()})
    check_same_outputs(fresh.network, trainable.network)
    with pytest.raises(TrainingError, match="the saved state are not those of the recipe: it lacks lm"):
        fresh.load_trained_state(prepared("heads").trained_state())


def test_the_manifest_describes_base_settings_and_recipe(base: Path, tmp_path: Path) -> None:
    sampling = {"fps": 1.0, "window": 7, "instructions": ("Look!",)}
    trainable = prepared("lora", str(base), sampling=sampling)
    saved = save(tmp_path / "trained", trainable)
    manifest = json.loads((saved / "mmduet.json").read_text())
    assert manifest["base"]["name"] == base.resolve().as_posix()
    assert manifest["base"]["digest"].startswith("sampled-sha256:")
    assert manifest["prompts"] == {"system": SYSTEM_PROMPT, "query": "Look!"}
    assert Recipe.model_validate(manifest["training"]["recipe"]) == trainable.recipe
    recommended = load_model(saved).config.recommended
    assert (recommended.fps, recommended.window, recommended.query) == (1.0, 7, "Look!")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_recommended_settings_can_be_changed_after_training(method: str, tmp_path: Path) -> None:
    saved = save(tmp_path / "trained", prepared(method))
    changed = update_recommended(saved, speak="threshold:0.3", score_heads=("informative", "relevance"))
    assert read_recommended(saved) == changed
    assert load_model(saved).config.recommended == changed
    assert changed.speak == "threshold:0.3"
    with pytest.raises(OptionError, match="'speek' is not a recommended setting, did you mean speak"):
        update_recommended(saved, speek="sum:2")
    with pytest.raises(CheckpointError, match="fps"):
        update_recommended(saved, fps=-1.0)
    assert read_recommended(saved) == changed
    with pytest.raises(CheckpointError, match=r"mmduet\.json has no recommended settings"):
        update_recommended(tmp_path, fps=1.0)


def test_another_base_is_reported(base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = save(tmp_path / "trained", prepared("lora", str(base)))
    copy = transformers_layout(random_llava(), tmp_path / "copy")
    model = random_llava()
    with torch.no_grad():
        model.model.language_model.norm.weight.mul_(1.01)
    other = transformers_layout(model, tmp_path / "other")
    with caplog.at_level(logging.WARNING, "mmduet"):
        load_model(copy, adapter=saved)
        assert not caplog.messages
        load_model(other, adapter=saved)
    (message,) = caplog.messages
    assert "whose weights are not those of" in message
    assert str(other) in message


@pytest.mark.parametrize(
    ("method", "settings", "dtype", "error", "message"),
    [
        (
            LORA | {"targets": ("q_prok",)},
            {},
            "float32",
            OptionError,
            "'q_prok', which is not a linear layer .*did you mean q_proj",
        ),
        (LORA, {}, "bfloat16", OptionError, "precision float32 cannot be computed with weights in bfloat16"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    method: dict[str, Any], settings: dict[str, Any], dtype: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare_model(load_model("random:tiny", dtype), make_recipe(method, **settings))


def test_an_adapter_cannot_be_the_base_of_another(tmp_path: Path) -> None:
    saved = save(tmp_path / "trained", prepared("heads"))
    loaded: LoadedModel = load_model(saved)
    with pytest.raises(TrainingError, match="is an adapter, on which no other adapter can be based"):
        prepare_model(loaded, make_recipe(LORA, str(saved)))
    assert prepare_model(loaded, make_recipe({"kind": "full"}, str(saved))).trained_state()


def test_an_adapter_is_saved_completely_or_not_at_all(tmp_path: Path) -> None:
    saved = save(tmp_path / "trained", prepared("heads"))
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    trainable = prepared("lora")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        save(blocked / "trained", trainable)
    with pytest.raises(TypeError):  # a manifest that is not JSON
        save_trained(saved, trainable, trainable.network.config.recommended, {"run": object()})
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"trained", "file"}
