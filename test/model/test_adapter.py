"""LoRA adapters written by PEFT, merged by us: as PEFT itself would, or an error that says what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmduet.errors import CheckpointError, ModelNotFoundError
from mmduet.model import load_model
from mmduet.model.adapter import merge_adapter, read_adapter
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
    with pytest.raises(ModelNotFoundError, match=r"holds no adapter_config\.json"):
        load_model("random:tiny", adapter=tmp_path / "none")


def rewritten(adapter: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")
    return adapter


Q_PROJ = "base_model.model.lm.layers.0.self_attn.q_proj"
HEAD = "base_model.model.heads.informative.weight"


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(adapter: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if "layers.1" in name]:
            tensors[name.replace("layers.1", "layers.9")] = tensors.pop(name)
        tensors[HEAD] = torch.zeros(3, 48)

    model, before = tiny(), tiny().state_dict()
    pattern = (
        r"heads\.informative\.weight: the adapter has \(3, 48\), the model has \(2, 48\).*layers\.9.*no such tensor"
    )
    with pytest.raises(CheckpointError, match=pattern):
        merge_adapter(model, read_adapter(rewritten(adapter, change)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{Q_PROJ}.lora_B.weight"), "expected A and B of rank 4; save it again"),
        (
            lambda t: t.update({f"{Q_PROJ}.lora_A.weight": torch.zeros(8, 48)}),
            "expected A and B of rank 4; save it again",
        ),
        (
            lambda t: t.update({f"{Q_PROJ}.weight": torch.zeros(48, 48)}),
            r"q_proj\.weight is stored both in full and as LoRA",
        ),
        (lambda t: t.clear(), "does not fit: it has no tensors; use the model that it was trained on"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    adapter: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model("random:tiny", adapter=rewritten(adapter, change))


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_dora", True), ("trainable_token_indices", [1]), ("init_lora_weights", "pissa"), ("lora_bias", True)],
)
def test_lora_of_another_kind_is_refused(adapter: Path, name: str, value: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(CheckpointError, match=rf"LORA with {name}, not plain LoRA"):
        load_model("random:tiny", adapter=adapter)


def test_an_adapter_that_is_no_lora_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match="is IA3, not plain LoRA"):
        load_model("random:tiny", adapter=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_model.safetensors", b"[]", "cannot be read"),
        ("adapter_config.json", b"[]", "holds a list, expected an object"),
        ("adapter_config.json", b"{", "is not JSON"),
        ("adapter_config.json", b"[" * 100_000, "is not JSON"),
        ("adapter_config.json", b"\xff\xfe\xff", "is not JSON"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": 0, "lora_alpha": 1}', "expected A and B of rank 0"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": "x", "lora_alpha": 1}', "cannot be used"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": 4}', "cannot be used"),
        (
            "adapter_config.json",
            b'{"peft_type": "LORA", "r": 4, "lora_alpha": 1, "rank_pattern": {"(": 1}}',
            "cannot be used",
        ),
        (
            "adapter_config.json",
            b'{"peft_type": "LORA", "r": 4, "lora_alpha": 1, "alpha_pattern": [1]}',
            "cannot be used",
        ),
    ],
)
def test_garbage_is_refused(adapter: Path, name: str, content: bytes, message: str) -> None:
    (adapter / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_model("random:tiny", adapter=adapter)
