"""Adapters of every kind that PEFT writes: outputs equal PEFT's, merged and kept apart, or the setting is refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from llava import PLAIN, heads, original_layout, random_llava, transformers_layout
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from mmduet.errors import CheckpointError
from mmduet.model import LoadedModel, load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.quantize import Quantization, quantize

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own
IDS = torch.tensor([[1, 2, 3, 70, 5, 6, 250]])
LAYERS = ["q_proj", "up_proj"]
LM_ONLY = r".*language_model.*\.(q_proj|up_proj)"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def theirs(request: pytest.FixtureRequest) -> LlavaOnevisionForConditionalGeneration:
    return random_llava(request.param)


@pytest.fixture(scope="module")
def base(theirs: LlavaOnevisionForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformers_layout(theirs, tmp_path_factory.mktemp("base") / "llava")


def trained(theirs: LlavaOnevisionForConditionalGeneration, root: Path, **settings: Any) -> PeftModel:
    """Return a copy of the model with a random adapter, and save the adapter, with heads, in ``root``."""
    wrapped = get_peft_model(copy.deepcopy(theirs), LoraConfig(**{"r": 2, "lora_alpha": 3} | settings)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    wrapped.save_pretrained(root)
    own = load_file(root / WEIGHTS)
    save_file(own | load_file(heads(root / "heads", **PLAIN) / WEIGHTS), root / WEIGHTS)
    return wrapped


@torch.no_grad()
def logits(model: LoadedModel, adapter: str | None = None) -> Tensor:
    network, length = model.network, IDS.shape[1]
    embeds = network.embed_tokens(IDS)
    if model.adapters is None:
        return network.lm_head(network.lm(inputs_embeds=embeds, use_cache=False).last_hidden_state)
    with model.adapters.route_rows([adapter], [length]):
        return network.lm_head(network.lm(inputs_embeds=embeds, use_cache=False).last_hidden_state)


def check_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


KINDS: dict[str, dict[str, Any]] = {
    "saved embedding": {"target_modules": LAYERS, "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": LAYERS, "modules_to_save": ["lm_head"]},
    "saved embedding and head": {"target_modules": LAYERS, "modules_to_save": ["embed_tokens", "lm_head"]},
    "targeted head": {"target_modules": [*LAYERS, "lm_head"]},
    "targeted embedding": {"target_modules": [*LAYERS, "embed_tokens"]},
    "targeted embedding and head": {"target_modules": ["embed_tokens", "lm_head"]},
    "saved, kept tied": {"target_modules": LAYERS, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "targeted, kept tied": {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    "biases of the layers": {"target_modules": LAYERS, "bias": "lora_only"},
    "all biases": {"target_modules": LAYERS, "bias": "all"},
    "patterns": {
        "target_modules": LAYERS,
        "rank_pattern": {"q_proj": 5, r"layers\.0\.mlp\.up_proj": 3},
        "alpha_pattern": {"up_proj": 7, "layers.1.self_attn.q_proj": 11},
    },
    "rank-stabilised, with patterns": {
        "target_modules": LAYERS, "use_rslora": True, "rank_pattern": {"q_proj": 5}, "alpha_pattern": {"up_proj": 7},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_merged_adapter_computes_what_peft_computes(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, kind: str, tmp_path: Path
) -> None:
    wrapped = trained(theirs, tmp_path / "adapter", **KINDS[kind])
    ours = load_model(str(base), adapter=tmp_path / "adapter")
    expected = wrapped(input_ids=IDS).logits
    assert (expected - theirs(input_ids=IDS).logits).abs().max() > 0.02
    check_equal(logits(ours), expected)
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    tower = wrapped.get_base_model().model.vision_tower(pixel_values=pixels, output_hidden_states=True)
    check_equal(ours.network.features(pixels), tower.hidden_states[-1])
    saved = save_checkpoint(tmp_path / "merged", ours.network, ours.tokenizer)
    check_equal(logits(load_model(str(saved))), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": "lora_only"},
        {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"up_proj": 7}},
        {"use_rslora": True, "rank_pattern": {"q_proj": 5}},
    ],
    ids=["plain", "biases", "patterns", "rank-stabilised"],
)
@torch.no_grad()
def test_an_adapter_that_is_kept_apart_computes_what_peft_computes(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    wrapped = trained(theirs, tmp_path / "adapter", target_modules=LM_ONLY, **settings)
    both = load_model(str(base), adapters={"mine": tmp_path / "adapter"})
    check_equal(logits(both, "mine"), wrapped(input_ids=IDS).logits)
    check_equal(logits(both, None), theirs(input_ids=IDS).logits)


@pytest.mark.parametrize("quantized", ["int8", "nf4"])
@torch.no_grad()
def test_an_adapter_on_a_quantized_base_computes_what_peft_computes(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, quantized: Quantization, tmp_path: Path
) -> None:
    """PEFT's layers of bitsandbytes stand on the same quantised weights as ours."""
    plain = copy.deepcopy(theirs)
    quantize(SimpleNamespace(lm=plain.model.language_model), quantized)  # type: ignore[arg-type]
    wrapped = trained(
        plain, tmp_path / "adapter", target_modules=LM_ONLY, bias="lora_only", alpha_pattern={"up_proj": 7}
    )
    apart = load_model(str(base), adapters={"mine": tmp_path / "adapter"}, quantized=quantized)
    expected = wrapped.train()(input_ids=IDS).logits  # as in ours, bitsandbytes then rounds weights, not activations
    check_equal(logits(apart, "mine"), expected)
    assert (logits(apart, None) - expected).abs().max() > 0.02


@torch.no_grad()
def test_a_head_that_an_adapter_unties_stays_apart_on_a_quantized_base(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, tmp_path: Path
) -> None:
    trained(theirs, tmp_path / "adapter", **KINDS["saved embedding"])
    model = load_model(str(base), adapter=tmp_path / "adapter", quantized="int8").network
    assert torch.equal(model.lm_head.weight, theirs.lm_head.weight)
    assert not torch.equal(model.lm.embed_tokens.weight, theirs.model.language_model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("saved embedding", "lm.embed_tokens.weight"),
        ("saved head", "lm_head.weight"),
        ("targeted head", "lm_head"),
        ("targeted embedding", "lm.embed_tokens"),
        ("all biases", "tower.siglip"),
    ],
)
def test_an_adapter_of_shared_parts_is_not_kept_apart(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, kind: str, part: str, tmp_path: Path
) -> None:
    trained(theirs, tmp_path / "adapter", **KINDS[kind] | {"target_modules": KINDS[kind]["target_modules"]})
    with pytest.raises(CheckpointError, match=rf"changes .*{part}.*, which all sessions share; merge it"):
        load_model(str(base), adapters={"mine": tmp_path / "adapter"})


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"trainable_token_indices": [1, 2]},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_kinds_are_refused_by_name(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    trained(theirs, tmp_path / "adapter", target_modules=LAYERS, **settings)
    with pytest.raises(CheckpointError, match=rf"LORA with {next(iter(settings))}, not plain LoRA"):
        load_model(str(base), adapter=tmp_path / "adapter")


def test_an_adapter_of_layers_that_do_not_run_is_merged_without_them(
    theirs: LlavaOnevisionForConditionalGeneration, base: Path, tmp_path: Path
) -> None:
    """The last layer of the tower does not run with ``vision_feature_layer`` -2; LoRA on ``q_proj`` covers it all the same."""
    trained(theirs, tmp_path / "adapter", target_modules=LAYERS, bias="all")
    short = tmp_path / "short"
    short.mkdir()
    for file in base.iterdir():
        (short / file.name).write_bytes(file.read_bytes())
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "vision_feature_layer": -2}))
    whole = load_model(str(base), adapter=tmp_path / "adapter")
    partial = load_model(str(short), adapter=tmp_path / "adapter")
    assert partial.config.vision.layers == whole.config.vision.layers - 1
    check_equal(logits(partial), logits(whole))


def test_contradicting_weights_of_a_tied_model_are_refused(tmp_path: Path) -> None:
    """Stored in place rather than as copies, both would be written to the same tensor."""
    base = original_layout(random_llava(True), tmp_path / "base")
    adapter = heads(tmp_path / "heads", **PLAIN)
    both = {f"base_model.model.{name}.weight": torch.rand(300, 48) for name in ("lm_head", "model.embed_tokens")}
    save_file(load_file(adapter / WEIGHTS) | both, adapter / WEIGHTS)
    with pytest.raises(CheckpointError, match="different weights for the embedding and the language head"):
        load_model(str(base), adapter=adapter)
