"""``mmduet convert`` and ``mmduet inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import Command
from llava import PLAIN, heads, original_layout, random_llava
from safetensors.torch import load_file

from mmduet.engine import Engine, recommended_options
from mmduet.errors import ModelError
from mmduet.model import load_model
from mmduet.model.checkpoint import read_manifest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original_layout(random_llava(), tmp_path_factory.mktemp("base") / "llava")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heads(tmp_path_factory.mktemp("adapter") / "duet", **PLAIN)


def test_a_converted_checkpoint_is_the_same_model(mmduet: Command, base: Path, adapter: Path, tmp_path: Path) -> None:
    status, out, _ = mmduet("convert", base, tmp_path / "converted", "--adapter", adapter)
    assert (status, "in float32" in out) == (0, True)
    original, converted = load_model(str(base), adapter=adapter), load_model(str(tmp_path / "converted"))
    assert all(
        torch.equal(tensor, converted.network.state_dict()[n]) for n, tensor in original.network.state_dict().items()
    )
    assert converted.config == original.config
    assert read_manifest(tmp_path / "converted")["converted_from"] == {"source": "llava", "adapter": "duet"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["converted"]


def test_the_data_type_can_be_chosen(mmduet: Command, base: Path, adapter: Path, tmp_path: Path) -> None:
    assert mmduet("convert", base, tmp_path / "half", "--adapter", adapter, "--dtype", "bfloat16")[0] == 0
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}
    assert mmduet("convert", tmp_path / "half", tmp_path / "again")[0] == 0  # as stored
    assert {t.dtype for t in load_file(tmp_path / "again" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_base_without_heads_is_not_converted(mmduet: Command, base: Path, tmp_path: Path) -> None:
    status, _, err = mmduet("convert", base, tmp_path / "converted")
    assert status == 5
    assert "a base model has no heads: load it with an adapter that has them" in err
    assert not list(tmp_path.iterdir())


def test_a_directory_with_other_files_is_not_replaced(
    mmduet: Command, base: Path, adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    status, _, err = mmduet("convert", base, tmp_path / "photos", "--adapter", adapter)
    assert status == 2
    assert "is not an mmduet checkpoint" in err
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"x"


def test_an_existing_checkpoint_is_replaced_only_if_that_is_asked_for(
    mmduet: Command, base: Path, adapter: Path, tmp_path: Path
) -> None:
    target = tmp_path / "converted"
    assert mmduet("convert", "random:tiny", target)[0] == 0
    before = (target / "model.safetensors").read_bytes()
    status, _, err = mmduet("convert", base, target, "--adapter", adapter)
    assert status == 2
    assert f"{target} already holds a checkpoint; give another directory, or --overwrite to replace it" in err
    assert (target / "model.safetensors").read_bytes() == before
    assert mmduet("convert", base, target, "--adapter", adapter, "--overwrite")[0] == 0
    assert read_manifest(target)["converted_from"] == {"source": "llava", "adapter": "duet"}
    (tmp_path / "photos").mkdir()
    assert mmduet("convert", base, tmp_path / "photos", "--adapter", adapter, "--overwrite")[0] == 2


@pytest.mark.parametrize("name", ["random:tiny", "random:nano", "random:0.5b", "random:7b"])
def test_random_models_are_described(mmduet: Command, name: str) -> None:
    status, out, _ = mmduet("inspect", name, "--json")
    properties = json.loads(out)
    assert (status, properties["path"], properties["kind"], properties["loads"]) == (0, name, "random", True)
    assert properties["heads"] == ["informative", "relevance"]
    is_published = name in ("random:0.5b", "random:7b")  # whose weights are published in bfloat16
    assert properties["dtype"] == ("bfloat16" if is_published else "float32")
    assert properties["weight_bytes"] == (2 if is_published else 4) * properties["parameters"]
    if name == "random:7b":
        assert 7.9e9 < properties["parameters"] < 8.1e9
    if name == "random:tiny":
        assert properties["parameters"] == sum(p.numel() for p in load_model(name).network.parameters())
        assert mmduet("inspect", "random:11b")[0] == 5


def test_a_checkpoint_is_described_without_loading_it(mmduet: Command) -> None:
    status, out, _ = mmduet("inspect", "nano", "--json")
    properties = json.loads(out)
    nano = load_model("nano")
    assert status == 0
    assert properties["loads"] is True
    assert properties["kind"] == "mmduet"
    assert properties["heads"] == ["informative", "relevance"]
    assert properties["parameters"] == sum(p.numel() for p in nano.network.parameters())
    assert properties["weight_bytes"] == 4 * properties["parameters"]
    assert properties["tokens_per_frame"] == nano.config.frame_tokens
    assert (
        properties["stream_bytes_per_frame"] == nano.config.frame_tokens * 2 * 4 * 2 * 48 * 4
    )  # keys, values; float32
    session = Engine(nano).open(recommended_options(nano.config.recommended))
    assert properties["stream_bytes"] == session.slot.capacity * 2 * 4 * 2 * 48 * 4


def test_missing_heads_of_a_base_are_reported(mmduet: Command, base: Path, adapter: Path) -> None:
    status, out, _ = mmduet("inspect", base)
    assert status == 5
    assert "missing heads.informative.weight" in out
    assert mmduet("inspect", base, "--adapter", adapter)[0] == 0


def test_an_adapter_is_described(mmduet: Command, base: Path, tmp_path: Path) -> None:
    status, out, _ = mmduet("inspect", heads(tmp_path / "heads", base, **PLAIN), "--json")
    assert status == 0
    assert (json.loads(out)["kind"], json.loads(out)["loads"]) == ("adapter", True)
    assert json.loads(out)["heads"] == ["informative", "relevance"]


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("/missing/llava", "trained on /missing/llava (model '/missing/llava' is neither a directory nor one of"),
        (None, "names no base; give a base as model, and this as adapter"),
        ("nano", "does not fit: heads.informative.weight: the adapter has (2, 48), the model has (2, 192)"),
    ],
)
def test_an_adapter_is_inspected_together_with_its_base(
    mmduet: Command, base: str | None, problem: str, tmp_path: Path
) -> None:
    adapter = heads(tmp_path / "heads", base, **PLAIN)
    status, out, _ = mmduet("inspect", adapter, "--json")
    described = json.loads(out)
    assert (status, described["kind"], described["loads"]) == (5, "adapter", False)
    assert problem in described["problem"]
    with pytest.raises(ModelError) as caught:
        load_model(str(adapter))
    assert str(caught.value) == described["problem"]


def test_directories_without_a_checkpoint_are_rejected(mmduet: Command, tmp_path: Path) -> None:
    assert mmduet("inspect", tmp_path / "none")[0] == 5
    status, _, err = mmduet("inspect", tmp_path)
    assert status == 5
    assert "is not a checkpoint: it contains neither mmduet.json nor config.json; check the path" in err
