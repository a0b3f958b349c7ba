"""LLaVA-OneVision checkpoints in both layouts, as Transformers and PEFT write them, give the same results as there."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from llava import PLAIN, SAVED, TEXT, VISION, heads, original_layout, random_llava, transformers_layout
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration
from visual_tokens import embed_pixels

from mmduet.errors import CheckpointError
from mmduet.model import load_model
from mmduet.model.adapter import read_adapter
from mmduet.model.key_mapping import to_internal_key
from mmduet.model.llava_config import read_config
from mmduet.model.network import DuetModel
from mmduet.model.tensor_files import TensorFiles

Maker = Callable[[LlavaOnevisionForConditionalGeneration, Path], Path]


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def theirs(request: pytest.FixtureRequest) -> LlavaOnevisionForConditionalGeneration:
    return random_llava(request.param)


def pixels() -> Tensor:
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def row(model: DuetModel) -> Tensor:
    visual = embed_pixels(model, pixels())
    return torch.cat([visual.flatten(0, 1), model.embed_tokens(torch.tensor([1, 2, 3]))])[None]


@pytest.mark.parametrize("make", [transformers_layout, original_layout], ids=["transformers", "original"])
@torch.no_grad()
def test_both_layouts_compute_what_transformers_computes(
    theirs: LlavaOnevisionForConditionalGeneration, make: Maker, tmp_path: Path
) -> None:
    model = load_model(str(make(theirs, tmp_path / "base")), adapter=heads(tmp_path / "heads", **PLAIN)).network
    core = theirs.model
    features = core.vision_tower(pixel_values=pixels(), output_hidden_states=True).hidden_states[-1]
    grid = core.multi_modal_projector(features).transpose(1, 2).reshape(2, 48, 8, 8)
    pooled = torch.nn.functional.interpolate(grid, size=(2, 2), mode="bilinear")
    torch.testing.assert_close(embed_pixels(model, pixels()), pooled.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    embeds = row(model)
    hidden = core.language_model(inputs_embeds=embeds).last_hidden_state
    mine = model.lm(inputs_embeds=embeds, use_cache=False).last_hidden_state
    torch.testing.assert_close(mine, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.lm_head(mine), theirs.lm_head(hidden), atol=1e-5, rtol=1e-5)
    assert (model.lm_head.weight is model.lm.embed_tokens.weight) == theirs.config.tie_word_embeddings


@pytest.mark.parametrize("names", [PLAIN, SAVED], ids=["plain", "saved by PEFT under other names"])
def test_heads_of_published_adapters_are_loaded(
    theirs: LlavaOnevisionForConditionalGeneration, names: dict[str, str], tmp_path: Path
) -> None:
    model = load_model(
        str(original_layout(theirs, tmp_path / "base")), adapter=heads(tmp_path / "heads", **names)
    ).network
    assert model.heads["informative"].weight[:, 0].tolist() == pytest.approx([-0.1, 0.1])
    assert model.heads["relevance"].weight[:, 0].tolist() == pytest.approx([0.2, -0.2])


def test_a_base_without_heads_cannot_be_loaded_without_an_adapter(
    theirs: LlavaOnevisionForConditionalGeneration, tmp_path: Path
) -> None:
    base = original_layout(theirs, tmp_path / "base")
    with pytest.raises(
        CheckpointError,
        match=r"missing heads\.informative\.weight \(2, 48\).*a base model has no heads: load it with an adapter",
    ):
        load_model(str(base))
    one = heads(tmp_path / "one", informative=PLAIN["informative"])
    with pytest.raises(CheckpointError, match=r"missing heads\.relevance\.weight"):
        load_model(str(base), adapter=one)


@pytest.mark.parametrize("make", [transformers_layout, original_layout], ids=["transformers", "original"])
def test_a_lora_of_the_language_model_is_merged(
    theirs: LlavaOnevisionForConditionalGeneration, make: Maker, tmp_path: Path
) -> None:
    """The adapter uses the original layout's names, whatever the layout of the base is."""
    base, adapter = make(theirs, tmp_path / "base"), heads(tmp_path / "lora", **PLAIN)
    tensors = load_file(adapter / "adapter_model.safetensors")
    path = "base_model.model.model.layers.1.mlp.up_proj"
    down, up = torch.randn(2, 48), torch.randn(96, 2)
    tensors |= {f"{path}.lora_A.weight": down, f"{path}.lora_B.weight": up}
    tensors["base_model.model.model.mm_projector.2.bias"] = torch.arange(48.0)
    save_file(tensors, adapter / "adapter_model.safetensors")
    model = load_model(str(base), adapter=adapter).network
    before = theirs.model.language_model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(model.lm.layers[1].mlp.up_proj.weight, before + 2 * up @ down, atol=1e-5, rtol=1e-5)
    assert model.projector.fc2.bias.tolist() == list(range(48))


def test_a_complete_tower_runs_only_up_to_its_feature_layer(
    theirs: LlavaOnevisionForConditionalGeneration, tmp_path: Path
) -> None:
    base = transformers_layout(theirs, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vision_feature_layer": -2}))
    model = load_model(str(base), adapter=heads(tmp_path / "heads", **PLAIN)).network
    assert model.config.vision.layers == 2
    with torch.no_grad():
        states = theirs.model.vision_tower(pixel_values=pixels(), output_hidden_states=True).hidden_states
        torch.testing.assert_close(model.tower(pixels()), states[-2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("declared", "feature", "stored", "run"),
    [(3, -1, 3, 3), (4, -1, 3, 3), (4, -2, 3, 3), (4, -2, 4, 3), (None, -1, 26, 26), (None, -1, 27, 26)],
)
def test_the_number_of_tower_layers_follows_from_config_and_weights(
    declared: int | None, feature: int, stored: int, run: int, tmp_path: Path
) -> None:
    config = {**TEXT, "vision_feature_layer": feature}
    if declared is not None:
        config["vision_config"] = {**VISION, "num_hidden_layers": declared}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = {f"tower.siglip.encoder.layers.{k}.layer_norm1.weight": (32,) for k in range(stored)}
    assert read_config(tmp_path, shapes).vision.layers == run


@pytest.mark.parametrize(
    ("top", "inner", "stored", "tied"),
    [
        (None, None, True, False), (None, None, False, True), (False, True, False, True), (True, None, False, True),
        (False, False, False, False), (True, True, True, False),
    ],
)  # fmt: skip
def test_whether_the_language_head_is_tied_follows_from_config_and_weights(
    top: bool | None, inner: bool | None, stored: bool, tied: bool, tmp_path: Path
) -> None:
    """A stored head is used; otherwise it is tied to the embedding, unless the config forbids it."""
    config: dict[str, Any] = {"text_config": dict(TEXT), "vision_config": VISION}
    for part, value in ((config, top), (config["text_config"], inner)):
        if value is not None:
            part["tie_word_embeddings"] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {
        f"tower.siglip.encoder.layers.{k}.layer_norm1.weight": (32,) for k in range(3)
    }
    shapes |= {"lm_head.weight": (300, 48)} if stored else {}
    assert read_config(tmp_path, shapes).text.tied == tied


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"use_sliding_window": True}, "use_sliding_window True"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"mm_spatial_pool_mode": "average"}, "mm_spatial_pool_mode 'average'"),
        ({"vision_feature_layer": [-2, -1]}, "vision_feature_layer"),
    ],
)
def test_unsupported_settings_are_rejected(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**TEXT, "vision_config": VISION, **change}))
    with pytest.raises(CheckpointError, match=words):
        read_config(tmp_path, {})


def test_a_tensor_under_two_names_is_rejected(tmp_path: Path) -> None:
    both = heads(tmp_path, one=PLAIN["informative"], two=SAVED["informative"])
    with pytest.raises(CheckpointError, match="is listed twice"):
        read_adapter(both)


def test_a_missing_shard_is_named(theirs: LlavaOnevisionForConditionalGeneration, tmp_path: Path) -> None:
    base = original_layout(theirs, tmp_path / "base")
    (base / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"in model-00002-of-00002\.safetensors.*download the missing shards"):
        load_model(str(base), adapter=heads(tmp_path / "heads", **PLAIN))


def test_a_misshapen_tensor_is_named_with_its_file(
    theirs: LlavaOnevisionForConditionalGeneration, tmp_path: Path
) -> None:
    base = original_layout(theirs, tmp_path / "base")
    shard = base / "model-00001-of-00002.safetensors"
    tensors = load_file(shard)
    tensors["model.norm.weight" if "model.norm.weight" in tensors else sorted(tensors)[0]] = torch.zeros(7)
    save_file(tensors, shard)
    with pytest.raises(
        CheckpointError, match=r"misshapen .* in model-00001-of-00002\.safetensors: expected \(.*found \(7,\)$"
    ):
        load_model(str(base), adapter=heads(tmp_path / "heads", **PLAIN))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before zip"])
def test_pickles_are_read_only_if_allowed(
    theirs: LlavaOnevisionForConditionalGeneration, zipped: bool, tmp_path: Path
) -> None:
    base, adapter = original_layout(theirs, tmp_path / "base"), heads(tmp_path / "heads", **PLAIN)
    state: dict[str, Tensor] = {}
    expected = load_model(str(base), adapter=adapter).network.state_dict()
    for shard in base.glob("*.safetensors"):
        state |= load_file(shard)
        shard.unlink()
    (base / "model.safetensors.index.json").unlink()
    torch.save(state, base / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"contains its weights as pickles .*; if you trust their source, use --allow-pickle"
    ):
        load_model(str(base), adapter=adapter)
    found = load_model(str(base), adapter=adapter, pickles=True).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def cut(file: Path, *, zipped: bool) -> None:
    torch.save({"a": torch.zeros(4096)}, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[:9000])


def test_running_out_of_memory_is_not_reported_as_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        TensorFiles(tmp_path, pickles=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(b"garbage"), "cannot be read"),
        (lambda file: file.write_bytes(b""), "cannot be read"),
        (lambda file: file.write_bytes(pickle.dumps({"a": Path()})), "cannot be read"),
        (lambda file: cut(file, zipped=True), "cannot be read"),
        (lambda file: cut(file, zipped=False), "cannot be read"),
        (
            lambda file: torch.save({"state_dict": {"a": torch.zeros(1)}}, file),
            "is not a dictionary of tensors; download the model as safetensors",
        ),
    ],
    ids=["garbage", "empty", "not of tensors", "cut zip", "cut old format", "nested"],
)
def test_damaged_pickles_are_rejected(damage: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    damage(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=words):
        TensorFiles(tmp_path, pickles=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.vision_tower.vision_tower.vision_model.encoder.layers.3.mlp.fc1.bias",
         "tower.siglip.encoder.layers.3.mlp.fc1.bias"),
        ("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", "tower.siglip.encoder.layers.0.layer_norm1.weight"),
        ("language_model.model.layers.0.mlp.up_proj.weight", "lm.layers.0.mlp.up_proj.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("multi_modal_projector.linear_2.bias", "projector.fc2.bias"),
        ("model.mm_projector.0", "projector.fc1"),
        ("model.embed_tokens.weight", "lm.embed_tokens.weight"),
        ("lm.layers.0.mlp.up_proj.weight", "lm.layers.0.mlp.up_proj.weight"),
        ("whatever.weight", "whatever.weight"),
    ],
)  # fmt: skip
def test_names_are_mapped_to_internal_keys(name: str, expected: str) -> None:
    assert to_internal_key(name) == expected
