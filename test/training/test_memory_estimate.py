"""Predicted memory of training equals what PyTorch allocates, within a stated tolerance."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from allocations import peak_allocated
from small_samples import CAPTIONS, images, make_sequence

from mmduet.duet import IGNORE
from mmduet.model.config import DuetConfig, TextShape, VisionShape
from mmduet.model.loading import LoadedModel
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.model.quantize import weight_bytes
from mmduet.training.activation_memory import BatchShape
from mmduet.training.autocast import autocast
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import combine, duet_parts, forward_hidden
from mmduet.training.memory_estimate import MemoryEstimate, estimate, format_estimate
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_files import load_recipe, shipped_recipes
from mmduet.training.trainable import TrainableModel, prepare_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:(peft|bitsandbytes)")
TOLERANCE = 0.1  # of the peak of a step
CONFIG = DuetConfig(
    "small",
    VisionShape(image_size=56, patch_size=7, hidden_size=64, intermediate_size=192, layers=3, heads=4),
    TextShape(2048, 128, 384, 6, heads=8, kv_heads=2, head_dim=16, max_positions=4096, rope_theta=1e4),
    pooling_stride=2,
)
BIG_TOWER = replace(
    CONFIG,
    vision=replace(CONFIG.vision, hidden_size=256, intermediate_size=1024, heads=8),
    text=replace(CONFIG.text, layers=2),
)
BIG_VOCABULARY = replace(CONFIG, text=replace(CONFIG.text, vocab_size=32_000, layers=2, tied=True))
LORA: dict[str, Any] = {"kind": "lora", "rank": 8}
FULL: dict[str, Any] = {"kind": "full"}
AMP = "bfloat16"
SAMPLES = 4


def make_recipe(method: dict[str, Any], precision: str = "float32", **settings: Any) -> Recipe:
    data = ({"name": "mine", "kind": "scenes", "videos": "videos"},)
    return Recipe.model_validate({"method": method, "data": data, "precision": precision} | settings)


def describe(recipe: Recipe) -> str:
    more = "checkpointing" if recipe.gradient_checkpointing else ""
    return f"{recipe.method.kind} {recipe.precision} {recipe.dtype} {more}".strip()


def prepare(recipe: Recipe, config: DuetConfig) -> TrainableModel:
    dtype = torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    network = random_model(config, dtype=dtype).requires_grad_(False)
    return prepare_model(LoadedModel(network, byte_tokenizer()), recipe)


def make_batch(config: DuetConfig) -> Batch:
    sequences = [make_sequence(CAPTIONS, keep=True, frame_tokens=config.frame_tokens) for _ in range(SAMPLES)]
    frames = [images(config.vision.image_size, seed) for seed in range(SAMPLES)]
    return collate(sequences, frames, dense_mask=False)


def shape_of(batch: Batch) -> BatchShape:
    return BatchShape(*batch.ids.shape, batch.frame_ends.shape[1], int((batch.targets != IGNORE).sum()))


def train_step(trainable: TrainableModel, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    network = trainable.network
    with autocast(network.device) if trainable.recipe.precision == AMP else nullcontext():
        parts = duet_parts(network, batch, forward_hidden(network, batch))
        if not trainable.recipe.losses.lm:
            del parts["lm"]
    combine(parts).total.backward()
    del parts
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(recipe: Recipe, config: DuetConfig) -> tuple[int, MemoryEstimate]:
    """Return the peak of the second step, when the optimizer has its states, and the estimate."""
    trainable = prepare(recipe, config)
    optimizer = torch.optim.AdamW([parameter for _, parameter in trainable.named_trained()])
    train_step(trainable, make_batch(config), optimizer)
    batch = make_batch(config)  # its mask as a matrix is made by the step
    measured = peak_allocated(lambda: train_step(trainable, batch, optimizer))
    return measured, estimate(recipe, config, device_type="cpu", shape=shape_of(batch))


@pytest.mark.parametrize(
    ("recipe", "config"),
    [
        (make_recipe(LORA), CONFIG),
        (make_recipe(LORA | {"dropout": 0.0, "targets": ("q_proj", "v_proj")}), CONFIG),
        (make_recipe(LORA, AMP, dtype="bfloat16"), CONFIG),
        (make_recipe(LORA, AMP, dtype="float32"), CONFIG),
        (make_recipe(LORA, gradient_checkpointing=True), CONFIG),
        (make_recipe({"kind": "qlora", "rank": 8}, AMP, dtype="bfloat16"), CONFIG),
        (make_recipe(FULL), CONFIG),
        (make_recipe(FULL, AMP), CONFIG),
        (make_recipe(FULL), BIG_VOCABULARY),
        (make_recipe(FULL | {"train_tower": True}), BIG_TOWER),
        (make_recipe(FULL | {"train_tower": True}, AMP), BIG_TOWER),
        (make_recipe({"kind": "heads"}, AMP, dtype="bfloat16"), CONFIG),
        (make_recipe({"kind": "heads"}), BIG_TOWER),
    ],
    ids=lambda value: describe(value) if isinstance(value, Recipe) else f"{value.text.layers} layers",
)
def test_the_peak_of_a_step_is_as_predicted(recipe: Recipe, config: DuetConfig) -> None:
    measured, predicted = measure(recipe, config)
    assert predicted.step == pytest.approx(measured, rel=TOLERANCE)


def test_long_samples_on_a_cpu_keep_no_mask_and_no_outputs_of_attention() -> None:
    recipe = make_recipe(LORA)
    long = replace(
        CONFIG, pooling_stride=1, text=replace(CONFIG.text, layers=2), vision=replace(CONFIG.vision, patch_size=3)
    )
    trainable = prepare(recipe, long)
    batch = collate([make_sequence(CAPTIONS, frame_tokens=long.frame_tokens)], [images(56)], dense_mask=False)
    assert batch.ids.shape[1] > 2048
    optimizer = torch.optim.AdamW([parameter for _, parameter in trainable.named_trained()])
    measured = peak_allocated(lambda: train_step(trainable, batch, optimizer))
    states = sum(p.numel() for _, p in trainable.named_trained()) * 8
    predicted = estimate(recipe, long, device_type="cpu", shape=shape_of(batch))
    assert predicted.step == pytest.approx(measured, rel=TOLERANCE)
    assert predicted.optimizer == states


@pytest.mark.parametrize(
    "method", [LORA, LORA | {"kind": "qlora"}, FULL, FULL | {"train_tower": True}, {"kind": "heads"}]
)
@pytest.mark.parametrize("config", [CONFIG, BIG_VOCABULARY], ids=["untied", "tied"])
def test_weights_gradients_and_states_are_counted_exactly(method: dict[str, Any], config: DuetConfig) -> None:
    recipe = make_recipe(method, AMP, dtype="bfloat16", optimization={"ema": 0.99})
    network = prepare(recipe, config).network
    trained = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
    found = estimate(recipe, config, device_type="cpu")
    assert found.trained == found.gradients == found.average == trained
    assert found.optimizer == 2 * trained
    frozen = weight_bytes(network) - trained
    assert sum(found.frozen.values()) == pytest.approx(frozen, rel=0.002)  # scales of incomplete blocks


def test_states_of_8_bits_are_counted_exactly() -> None:
    import bitsandbytes

    recipe = make_recipe(LORA, optimization={"optimizer": "adamw_8bit"})
    trainable = prepare(recipe, CONFIG)
    optimizer = bitsandbytes.optim.AdamW8bit([parameter for _, parameter in trainable.named_trained()])
    for _, parameter in trainable.named_trained():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sizes = (
        value.nbytes
        for state in optimizer.state.values()
        for name, value in state.items()
        if name in ("state1", "state2", "absmax1", "absmax2")
    )
    assert estimate(recipe, CONFIG, device_type="cpu").optimizer == sum(sizes)


@pytest.mark.parametrize("name", shipped_recipes())
@pytest.mark.parametrize("size", ["nano", "0.5b", "7b"])
def test_every_shipped_recipe_has_an_estimate(name: str, size: str) -> None:
    recipe = load_recipe(name)
    found = estimate(recipe, SHAPES[size], device_type="cuda")
    assert found.total >= found.resident + found.gradients
    assert found.trained > 0
    lines = format_estimate(found).splitlines()
    assert lines[0].startswith("batch: ")
    assert lines[-1].split()[-2:] == [f"{found.total / 1e9:.3f}", "GB"]


def test_a_7b_model_needs_less_with_4_bits_and_checkpointing() -> None:
    def total(method: dict[str, Any], **settings: Any) -> float:
        return estimate(make_recipe(method, AMP, **settings), SHAPES["7b"], device_type="cuda").total / 1e9

    full, lora, qlora = total(FULL), total(LORA), total(LORA | {"kind": "qlora"})
    assert full > 7.6 * 16  # weights, gradients and two states in float32
    assert (
        full > lora > qlora > total(LORA | {"kind": "qlora"}, gradient_checkpointing=True) > 15.0
    )  # bfloat16 while loading


def test_a_batch_holds_samples_of_the_recipes_longest_length() -> None:
    recipe = make_recipe(LORA, sampling={"max_frames": 50}, optimization={"max_tokens_per_batch": 8192})
    shape = BatchShape.largest(recipe, SHAPES["7b"])
    assert shape == BatchShape(samples=2, tokens=3072, frames=50, targets=2 * (3072 - 50 * 49))
    alone = BatchShape.largest(make_recipe(LORA, optimization={"max_samples_per_batch": 1}), SHAPES["7b"])
    assert (alone.samples, alone.frames) == (1, 100)


def test_the_estimate_is_written_as_json_values() -> None:
    values = estimate(make_recipe(FULL), CONFIG, device_type="cpu").to_dict()
    assert values["total"] > values["trained_weights"] > 0
    assert values["batch"]["tokens"] >= values["batch"]["learned_tokens"]
