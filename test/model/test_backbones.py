"""Other towers and language models: small random instances give the same results as in Transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from llava import PLAIN, TEXT, heads, original_layout, random_llava, transformers_layout
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3Config, Siglip2VisionConfig, Siglip2VisionModel
from visual_tokens import embed_pixels

from mmduet.errors import CheckpointError
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.config import DuetConfig, TextShape, VisionShape
from mmduet.model.presets import byte_tokenizer, random_model
from mmduet.model.tower import patchify

NAFLEX = VisionShape(48, 8, 32, 64, 2, 2, family="siglip2", position_side=4)
DUET = DuetConfig("other", NAFLEX, TextShape(300, 48, 96, 2, 4, 2, 12, 4096, family="qwen3"), pooling_stride=4)


def lively(config: DuetConfig):
    model = random_model(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [transformers_layout, original_layout], ids=["transformers", "original"])
@torch.no_grad()
def test_qwen3_in_a_llava_onevision_checkpoint_computes_what_transformers_computes(make, tmp_path: Path) -> None:
    text = Qwen3Config(**TEXT, head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    theirs = random_llava(text=text)
    base = make(theirs, tmp_path / "base")
    if make is original_layout:
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "head_dim": 16}))
    model = load_model(str(base), adapter=heads(tmp_path / "heads", **PLAIN)).network
    assert model.config.text.family == "qwen3"
    embeds = torch.randn(1, 9, 48, generator=torch.Generator().manual_seed(0))
    expected = theirs.model.language_model(inputs_embeds=embeds).last_hidden_state
    torch.testing.assert_close(
        model.lm(inputs_embeds=embeds, use_cache=False).last_hidden_state, expected, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_a_siglip2_tower_computes_what_transformers_computes() -> None:
    """Its learned 4 x 4 positions are interpolated to 6 x 6 patches."""
    tower = lively(DUET).tower
    config = Siglip2VisionConfig(
        num_patches=16, patch_size=8, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        vision_use_head=False,
    )  # fmt: skip
    theirs = Siglip2VisionModel(config).eval()
    state = {name.removeprefix("siglip."): tensor for name, tensor in tower.state_dict().items()}
    assert set(theirs.load_state_dict(state, strict=False).missing_keys) == {
        "post_layernorm.weight",
        "post_layernorm.bias",
    }
    theirs.post_layernorm = torch.nn.Identity()
    pixels = images(48)
    cut = pixels.permute(0, 2, 3, 1).unfold(1, 8, 8).unfold(2, 8, 8)  # [B, 6, 6, 3, 8, 8]
    cut = cut.permute(0, 1, 2, 4, 5, 3).reshape(2, 36, 192)
    assert torch.equal(patchify(pixels, 8), cut)
    mask, sides = torch.ones(2, 36, dtype=torch.bool), torch.full((2, 2), 6)
    expected = theirs(cut, pixel_attention_mask=mask, spatial_shapes=sides).last_hidden_state
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_model_of_other_families_is_saved_and_loaded(tmp_path: Path) -> None:
    model = lively(DUET)
    save_checkpoint(tmp_path / "ours", model, byte_tokenizer())
    read = load_model(str(tmp_path / "ours")).network
    assert read.config == DUET
    torch.testing.assert_close(embed_pixels(read, images(48)), embed_pixels(model, images(48)))


@torch.no_grad()
def test_a_siglip2_tower_is_recognised_by_its_weights(tmp_path: Path) -> None:
    """Its config has no image size, so it has as many patches as positions."""
    config = replace(DUET, vision=replace(NAFLEX, image_size=32))
    model = lively(config)
    base = save_checkpoint(tmp_path / "base", model, byte_tokenizer())
    tower = "model.vision_tower.vision_tower.vision_model."
    names = (("tower.siglip.", tower), ("lm.", "model."), ("projector.fc1.", "model.mm_projector.0."))
    names = (*names, ("projector.fc2.", "model.mm_projector.2."), ("heads.informative", "informative_head"))
    renamed = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        for internal, foreign in (*names, ("heads.relevance", "relevance_head")):
            name = foreign + name.removeprefix(internal) if name.startswith(internal) else name
        renamed[name] = tensor
    save_file(renamed, base / "model.safetensors")
    (base / "mmduet.json").unlink()
    text = {**TEXT, "head_dim": 12, "rope_theta": 1e6}
    vision = {"model_type": "siglip2_vision_model", "patch_size": 8, "hidden_size": 32, "intermediate_size": 64}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    (base / "config.json").write_text(json.dumps({**text, "vision_config": vision}))
    read = load_model(str(base)).network
    assert read.config.vision == config.vision
    torch.testing.assert_close(embed_pixels(read, images(32)), embed_pixels(model, images(32)))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("vision", "the family of the vision tower must be one of siglip, siglip2, got 'llama'"),
        ("text", "the family of the language model must be one of qwen2, qwen3, got 'llama'"),
    ],
)
def test_an_unknown_family_is_rejected(part: str, message: str) -> None:
    values = DUET.to_dict()
    values[part]["family"] = "llama"
    with pytest.raises(CheckpointError, match=message):
        DuetConfig.from_dict(values)
