"""The schema of recipes: its keys, its defaults, and what it rejects."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mmduet.errors import OptionError
from mmduet.tasks.prompts import GROUNDING_TEMPLATE, NARRATION_QUERY
from mmduet.training.recipe import (
    DataSet,
    Full,
    HeadsOnly,
    Lora,
    LossOptions,
    Optimization,
    QLora,
    Recipe,
    Sampling,
    Section,
    Validation,
)
from mmduet.training.recipe_files import recipe_from_dict

KEYS = {
    Recipe: (
        "description", "model", "dtype", "method", "data", "validation", "sampling", "optimization", "losses", "precision",
        "gradient_checkpointing", "seed",
    ),
    Lora: ("kind", "rank", "alpha", "dropout", "targets", "saved_modules"),
    QLora: ("kind", "rank", "alpha", "dropout", "targets", "saved_modules"),
    Full: ("kind", "train_tower"),
    HeadsOnly: ("kind", "reset"),
    DataSet: ("name", "kind", "annotations", "videos", "weight", "fps", "max_frames"),
    Validation: ("data", "share", "max_samples", "every", "decode_clips", "patience"),
    Sampling: (
        "fps", "max_frames", "window", "keep_replies", "instructions", "grounding_templates", "max_frames_before_question",
    ),
    Optimization: (
        "epochs", "steps", "max_tokens_per_batch", "max_samples_per_batch", "accumulation", "learning_rate", "warmup",
        "schedule", "weight_decay", "max_grad_norm", "optimizer", "ema", "workers", "save_every", "max_bad_fraction",
    ),
    LossOptions: ("lm", "informative", "relevance", "positive_weight", "focal_gamma", "smoothing_seconds"),
}  # fmt: skip
CAPTIONS = {"name": "captions", "kind": "captioning", "annotations": "a.json", "videos": "v"}
SCENES = {"name": "scenes", "kind": "scenes", "videos": "s"}
CONVERSATIONS = {"name": "talks", "kind": "conversations", "annotations": "c.json", "videos": "v"}


def make(**values: object) -> Recipe:
    return recipe_from_dict({"method": {"kind": "lora"}, "data": [CAPTIONS], **values}, "test")


@pytest.mark.parametrize(("section", "keys"), KEYS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_keys_are_stable_and_described(section: type[Section], keys: tuple[str, ...]) -> None:
    assert tuple(section.model_fields) == keys
    for name, field in section.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_the_smallest_recipe_takes_the_defaults_of_the_paper() -> None:
    recipe = make()
    assert (recipe.model, recipe.precision, recipe.optimization.learning_rate) == ("nano", "bfloat16", 2e-5)
    assert (recipe.optimization.warmup, recipe.optimization.schedule, recipe.optimization.epochs) == (0.05, "cosine", 1)
    assert recipe.method == Lora(
        rank=16,
        alpha=32,
        dropout=0.05,
        targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        saved_modules=("projector", "heads"),
    )
    assert (recipe.sampling.max_frames, recipe.sampling.max_frames_before_question) == (100, 20)
    assert (recipe.losses.lm, recipe.losses.informative, recipe.losses.relevance) == (1, 1, 1)


def test_the_queries_of_tasks_are_among_those_that_training_draws() -> None:
    assert NARRATION_QUERY in Sampling().instructions
    assert GROUNDING_TEMPLATE in Sampling().grounding_templates


@pytest.mark.parametrize(("kind", "expected"), [("lora", Lora), ("qlora", QLora), ("full", Full), ("heads", HeadsOnly)])
def test_the_kind_selects_the_method(kind: str, expected: type[Section]) -> None:
    assert make(method={"kind": kind}).method == expected()


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().seed = 1  # type: ignore[misc]


def test_a_data_set_may_have_its_own_frame_rate_and_length() -> None:
    data = [CAPTIONS | {"fps": 0.5}, CAPTIONS | {"name": "b", "max_frames": 30}, CAPTIONS | {"name": "c"}]
    recipe = make(data=data, sampling={"fps": 2, "max_frames": 40, "window": 8})
    sampling = [recipe.sampling_for(data_set) for data_set in recipe.data]
    assert [(s.fps, s.max_frames, s.window) for s in sampling] == [(0.5, 40, 8), (2, 30, 8), (2, 40, 8)]


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("data", [[], [SCENES]])
def test_validation_is_enabled_by_data_or_by_a_share(share: float, data: list[dict[str, str]]) -> None:
    if data and share:
        with pytest.raises(OptionError, match="validation: data and share are both set; remove one"):
            make(validation={"data": data, "share": share})
    else:
        assert make(validation={"data": data, "share": share}).validation.enabled is bool(data or share)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": [SCENES | {"annotations": "a.json"}]}, "data.0: annotations is not used by kind scenes; remove it"),
        ({"data": [CAPTIONS | {"annotations": None}]}, "data.0: annotations is missing; kind captioning needs a JSON"),
        ({"data": [CAPTIONS, CAPTIONS]}, "two data sets are named 'captions'; give each its own name"),
        ({"validation": {"data": [CAPTIONS]}}, "two data sets are named 'captions'"),
        ({"data": []}, "data must be a list with at least one entry, got an empty list"),
        ({"validation": {"patience": 3}}, "patience needs validation samples; set validation.data or validation.share"),
        ({"validation": {"decode_clips": 3}}, "decode_clips needs validation samples"),
        ({"data": [SCENES], "sampling": {"max_frames": 20}}, "must be less than max_frames, which is 20 for data set 'scenes'"),
        ({"data": [SCENES | {"max_frames": 9}]}, "which is 9 for data set 'scenes', got 20"),
        ({"sampling": {"grounding_templates": ["find it"]}}, "each template must contain {query} once, got 'find it'"),
        ({"sampling": {"grounding_templates": ["{query} {query}"]}}, "each template must contain {query} once"),
        ({"sampling": {"instructions": []}}, "sampling.instructions must be a list with at least one entry"),
        ({"losses": {"lm": 0, "informative": 0, "relevance": 0}}, "lm, informative and relevance are all 0"),
        ({"losses": {"positive_weight": 0}}, "losses.positive_weight must be a number above 0, or balanced, got 0"),
        ({"losses": {"positive_weight": float("nan")}}, "losses.positive_weight must be a number above 0"),
        ({"losses": {"positive_weight": True}}, "losses.positive_weight must be a number above 0"),
        ({"method": {"kind": "heads"}, "data": [CONVERSATIONS]}, "method heads needs frame labels, and conversations have"),
        (
            {"method": {"kind": "heads"}, "losses": {"informative": 0, "relevance": 0}},
            "method heads needs a loss of a head; set losses.informative or losses.relevance above 0",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        make(**values)
    assert str(caught.value).startswith("test: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["balanced", 1, 2.5])
def test_positive_labels_are_weighted_by_a_number_or_balanced(value: float | str) -> None:
    assert make(losses={"positive_weight": value}).losses.positive_weight == value


def test_few_frames_are_enough_for_captions() -> None:
    assert make(sampling={"max_frames": 4}).sampling.max_frames == 4


def test_heads_may_learn_from_captions_beside_conversations() -> None:
    assert make(method={"kind": "heads"}, data=[CONVERSATIONS, CAPTIONS]).method == HeadsOnly()
