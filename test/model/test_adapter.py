"""LoRA adapters written by PEFT, merged by us: as PEFT itself would, or an error that says what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from mmduet.errors import CheckpointError, ModelNotFoundError
from mmduet.model import load_model
from mmduet.model.network import DuetModel
from mmduet.model.presets import random_config, random_model


def tiny() -> DuetModel:
    return random_model(random_config("tiny"))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Random LoRA matrices on the LM, a projector layer and both heads saved whole."""
    wrapped = get_peft_model(
        tiny(),
        LoraConfig(
            r=4,
            lora_alpha=16,
            target_modules=["q_proj", "down_proj"],
            modules_to_save=["informative", "relevance", "fc2"],
        ),
    )
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(tmp_path)
    return tmp_path


def test_merging_does_what_peft_does(adapter: Path) -> None:
    ours = load_model("random:tiny", adapter=adapter).network.state_dict()
    theirs = PeftModel.from_pretrained(tiny(), adapter).merge_and_unload().state_dict()
    before = tiny().state_dict()
    assert ours.keys() == theirs.keys()
    changed = {name for name in ours if not torch.equal(ours[name], before[name])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "down_proj", "informative", "relevance", "fc2"}
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-6, msg=name)


def test_no_adapter_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is no adapter directory"):
        load_model("random:tiny", adapter=tmp_path / "none")


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    odd = {name.replace("layers.1", "layers.9"): t for name, t in tensors.items()}
    odd["base_model.model.heads.informative.weight"] = torch.zeros(3, 48)
    save_file(odd, adapter / "adapter_model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"layers\.9.*heads\.informative\.weight: the adapter has \(3, 48\), .*\(2, 48\)"
    ):
        load_model("random:tiny", adapter=adapter)


def test_a_half_pair_is_refused(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    del tensors["base_model.model.lm.layers.0.self_attn.q_proj.lora_B.weight"]
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.q_proj: .* half of its LoRA pair is missing"):
        load_model("random:tiny", adapter=adapter)


@pytest.mark.parametrize(("name", "value"), [("use_dora", True), ("rank_pattern", {"q_proj": 8}), ("peft_type", "IA3")])
def test_what_is_not_plain_lora_is_refused(adapter: Path, name: str, value: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(CheckpointError, match="not plain LoRA"):
        load_model("random:tiny", adapter=adapter)


def test_garbage_is_refused(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model("random:tiny", adapter=adapter)
