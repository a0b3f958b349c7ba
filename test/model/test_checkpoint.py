"""Checkpoints: saved weights are loaded bit for bit, and errors name everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models
from visual_tokens import embed_pixels

from mmduet.errors import CheckpointError, ModelNotFoundError
from mmduet.model import load_model
from mmduet.model.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel
from mmduet.model.presets import SHAPES, byte_tokenizer, random_config, random_model
from mmduet.model.tokenizer import Tokenizer

TINY = SHAPES["tiny"]
TIED = replace(TINY, text=replace(TINY.text, tied=True))


def outputs(model: DuetModel) -> list[torch.Tensor]:
    """Return everything that a model computes from a fixed input."""
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        visual = embed_pixels(model, pixels)
        row = torch.cat([visual.flatten(0, 1), model.embed_tokens(torch.tensor([1, 2, 3]))])[None]
        hidden = model.lm(inputs_embeds=row, use_cache=False).last_hidden_state[0]
        return [visual, hidden, model.lm_head(hidden), model.score(hidden)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model", random_model(TINY, seed=5), byte_tokenizer())


@pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path: Path, config: DuetConfig) -> None:
    model = random_model(config, seed=5)
    directory = save_checkpoint(tmp_path / "new" / "model", model, byte_tokenizer(), extra={"note": "ours"})
    loaded = load_model(str(directory))
    assert loaded.config == config
    assert loaded.tokenizer.encode("a<|im_end|>") == byte_tokenizer().encode("a<|im_end|>")
    assert read_manifest(directory)["note"] == "ours"
    state = loaded.network.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), outputs(loaded.network), strict=True))
    assert not any(p.requires_grad or p.is_meta for p in loaded.network.parameters())
    assert not any(b.is_meta for b in loaded.network.buffers())
    assert not loaded.network.training
    assert sorted(p.name for p in directory.iterdir()) == ["mmduet.json", "model.safetensors", "tokenizer.json"]
    assert [p.name for p in directory.parent.iterdir()] == ["model"]


def test_a_tied_head_is_stored_once_as_the_embedding(tmp_path: Path) -> None:
    directory = save_checkpoint(tmp_path / "tied", random_model(TIED), byte_tokenizer())
    assert "lm_head.weight" not in load_file(directory / "model.safetensors")
    model, _ = load_checkpoint(directory)
    assert model.lm_head.weight is model.lm.embed_tokens.weight


def test_weights_are_stored_and_loaded_in_the_requested_dtypes(tmp_path: Path) -> None:
    directory = save_checkpoint(tmp_path / "half", random_model(TINY), byte_tokenizer(), dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(directory / "model.safetensors").values()} == {torch.bfloat16}
    assert load_checkpoint(directory)[0].dtype == torch.float32
    assert load_checkpoint(directory, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_saving_again_replaces_the_checkpoint(saved: Path) -> None:
    newer = random_model(TIED, seed=6)
    save_checkpoint(saved, newer, byte_tokenizer())
    model, _ = load_checkpoint(saved)
    assert model.config == TIED
    assert torch.equal(model.projector.fc1.weight, newer.projector.fc1.weight)


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def test_one_error_names_every_problem_of_the_tensors(saved: Path) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["heads.informative.weight"], tensors["lm.norm.weight"]
        tensors["heads.funny.weight"] = torch.zeros(2, 48)
        tensors["projector.fc1.weight"] = torch.zeros(48, 31)

    edit_tensors(saved, damage)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    message = str(caught.value)
    assert "missing heads.informative.weight (2, 48)" in message
    assert "missing lm.norm.weight (48,)" in message
    assert "unexpected heads.funny.weight in model.safetensors (2, 48)" in message
    assert "misshapen projector.fc1.weight in model.safetensors: expected (48, 32), found (48, 31)" in message
    assert str(saved) in message


def test_an_error_about_many_tensors_names_some_and_counts_the_others(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    save_file({f"{name}.x": weight for name, weight in weights.items()}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"; and {2 * len(weights) - 20} more$") as raised:
        load_checkpoint(saved)
    assert len(str(raised.value)) < 2500


def test_a_stored_head_beside_a_tied_embedding_is_unexpected(tmp_path: Path) -> None:
    directory = save_checkpoint(tmp_path / "tied", random_model(TIED), byte_tokenizer())
    edit_tensors(directory, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(512, 48)}))
    with pytest.raises(CheckpointError, match=r"unexpected lm_head\.weight"):
        load_checkpoint(directory)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (
        lambda d: (d / "mmduet.json").unlink(),
        r"is not a checkpoint: it contains neither mmduet\.json nor config\.json; check the path",
    ),
    "manifest of garbage": (
        lambda d: (d / "mmduet.json").write_text("{nope"),
        r"mmduet\.json is not JSON: .*; write or download the file again",
    ),
    "manifest of bytes": (
        lambda d: (d / "mmduet.json").write_bytes(b"\xff\xfe\x00"),
        r"mmduet\.json is not JSON: .*; write or download the file again",
    ),
    "another format": (
        lambda d: (d / "mmduet.json").write_text('{"format": 99, "model": {}}'),
        "has format 99; this version reads format 1",
    ),
    "no model described": (
        lambda d: (d / "mmduet.json").write_text('{"format": 1}'),
        "has no description of the model",
    ),
    "a half description": (lambda d: (d / "mmduet.json").write_text('{"format": 1, "model": {"name": "x"}}'), "vision"),
    "weights cut short": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-100]),
        "cannot be read",
    ),
    "no weights": (
        lambda d: (d / "model.safetensors").unlink(),
        r"contains no \*\.safetensors file; check the name",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), r"tokenizer\.json cannot be read"),
    "tokenizer of garbage": (lambda d: (d / "tokenizer.json").write_text("{}"), r"tokenizer\.json cannot be read"),
    "tokenizer without special tokens": (
        lambda d: Backend(models.BPE(vocab={"a": 0}, merges=[])).save(str(d / "tokenizer.json")),
        r"has no <\|im_start\|> or no <\|im_end\|> token; a duet model needs both",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_rejected(saved: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved)


def test_a_manifest_that_is_a_list_is_rejected(saved: Path) -> None:
    (saved / "mmduet.json").write_text("[]")
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


def test_an_unknown_field_of_the_description_is_rejected(saved: Path) -> None:
    manifest = json.loads((saved / "mmduet.json").read_text())
    manifest["model"]["text"]["experts"] = 8
    (saved / "mmduet.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="experts"):
        load_checkpoint(saved)


def test_a_tokenizer_larger_than_the_embedding_is_rejected(tmp_path: Path) -> None:
    small = replace(TINY, text=replace(TINY.text, vocab_size=100))
    directory = save_checkpoint(tmp_path / "small", random_model(small), byte_tokenizer())
    with pytest.raises(
        CheckpointError, match="the tokenizer has 259 tokens, the model only 100; use the model's own tokenizer"
    ):
        load_checkpoint(directory)


@pytest.mark.parametrize("name", ["nano-2", "random:11b", "random:", "/no/such/directory", ""])
def test_an_unknown_model_name_is_rejected_with_the_known_names(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="tiny") as caught:
        load_model(name)
    assert f"model {name!r} is " in str(caught.value)


def test_a_tokenizer_without_special_tokens_is_rejected() -> None:
    with pytest.raises(
        CheckpointError, match=r"tokenizer has no <\|im_start\|> or no <\|im_end\|> token; a duet model needs both"
    ):
        Tokenizer(Backend(models.BPE(vocab={"a": 0}, merges=[])))


@pytest.mark.parametrize("size", ["tiny", "nano", "0.5b", "7b"])
def test_a_configuration_can_be_written_to_json_and_read(size: str) -> None:
    config = random_config(size)
    assert DuetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("vision", "intermediate_size", {"a": 1}), ("vision", "layers", 10**9), ("vision", "patch_size", 0),
        ("text", "hidden_size", [1]), ("text", "rope_theta", float("nan")), ("text", "tied", 1), ("text", "heads", True),
        ("recommended", "fps", "fast"), ("recommended", "max_new_tokens", -1), ("recommended", "query", 3),
    ],
)  # fmt: skip
def test_descriptions_with_impossible_values_are_rejected_by_name(part: str, name: str, value: object) -> None:
    values = random_config("tiny").to_dict()
    values[part][name] = value
    with pytest.raises(CheckpointError, match=rf"has {name} .*, expected"):
        DuetConfig.from_dict(values)


@pytest.mark.parametrize("value", [[], 3, "x", None])
def test_descriptions_that_are_no_objects_are_rejected(value: object) -> None:
    for part in ("vision", "text", "recommended", "domain"):
        if value is None and part == "domain":
            continue
        with pytest.raises(CheckpointError, match="description"):
            DuetConfig.from_dict(random_config("tiny").to_dict() | {part: value})
