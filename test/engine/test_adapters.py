"""Separate adapters: sessions with different adapters in one step equal sessions of models with the adapter merged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from duet_rig import Rig, frames, lively_model, options, replies, scores
from safetensors.torch import load_file, save_file

from mmduet.engine import Engine
from mmduet.errors import CheckpointError, EngineError, ModelNotFoundError, OptionError
from mmduet.events import Query
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.options import SessionOptions

ITEMS = [Query("What?", 0.0), *frames(10), Query("More?", 2.2)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = lively_model()
    return save_checkpoint(tmp_path_factory.mktemp("base") / "base", model.network, model.tokenizer)


def adapter(
    root: Path, seed: int, *, projector: bool = True, modules: tuple[str, ...] = ("q_proj", "o_proj", "up_proj")
) -> Path:
    """Write an adapter with LoRA on some layers, and its own heads and projector."""
    shapes = {name: tensor.shape for name, tensor in lively_model().network.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.startswith("lm.layers.") and name.split(".")[-2] in modules and name.endswith("weight"):
            path = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(3, shape[1], generator=generator) * 0.2
            tensors[f"{path}.lora_B.weight"] = torch.randn(shape[0], 3, generator=generator) * 0.2
        elif name.startswith("heads.") or (projector and name.startswith("projector.")):
            tensors[f"base_model.model.{name}"] = torch.randn(shape, generator=generator) * 0.4
    root.mkdir()
    (root / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 6}))
    save_file(tensors, root / "adapter_model.safetensors")
    return root


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "cook": adapter(root / "a", 1),
        "sport": adapter(root / "b", 2, projector=False, modules=("v_proj", "q_proj")),
    }


def with_adapter(name: str | None) -> SessionOptions:
    return options(0.5, adapter=name)


def run_merged(base: Path, adapters: dict[str, Path], name: str | None) -> tuple[list[float], list]:
    merged = load_model(str(base), adapter=adapters[name] if name else None)
    outputs = Rig(merged).run_stream(options(0.5), ITEMS)
    return scores(outputs), replies(outputs)


def test_packed_step_with_several_adapters_equals_each_merged_model(base: Path, adapters: dict[str, Path]) -> None:
    engine = Engine(load_model(str(base), adapters=adapters))
    chosen = ["cook", None, "sport", "cook", None]
    sessions = [engine.open(with_adapter(name)) for name in chosen]
    outputs = {session.id: [] for session in sessions}
    for session in sessions:
        for item in ITEMS:
            engine.push(session, item)
        engine.end(session)
    while engine.busy:
        for session, output in engine.step():
            outputs[session.id].append(output)
    found = [(scores(outputs[session.id]), replies(outputs[session.id])) for session in sessions]
    for name, (actual_scores, actual_replies) in zip(chosen, found, strict=True):
        expected, expected_replies = run_merged(base, adapters, name)
        np.testing.assert_allclose(actual_scores, expected, atol=2e-5, rtol=0)
        assert actual_replies == expected_replies
    different = [np.abs(np.subtract(found[0][0], found[k][0])).max() for k in (1, 2)]
    assert min(different) > 0.05
    assert sum(len(reply_list) for _, reply_list in found) > 5


@pytest.mark.parametrize("kind", ["int8", "nf4", "fp8"])
def test_adapters_work_on_a_quantised_base(base: Path, adapters: dict[str, Path], kind) -> None:
    apart = Rig(load_model(str(base), adapters=adapters, quantized=kind))
    plain = Rig(load_model(str(base), quantized=kind))
    adapted, base_alone = (scores(apart.run_stream(with_adapter(name), ITEMS)) for name in ("cook", None))
    np.testing.assert_allclose(base_alone, scores(plain.run_stream(options(0.5), ITEMS)), atol=1e-6, rtol=0)
    expected = np.array(run_merged(base, adapters, "cook")[0])
    assert np.abs(adapted - expected).mean() < np.abs(base_alone - expected).mean() / 2


def test_second_engine_on_the_same_adapters_is_rejected(base: Path, adapters: dict[str, Path]) -> None:
    bank = load_model(str(base), adapters=adapters).adapters
    with bank.route_rows(["cook"], [3]), pytest.raises(EngineError, match="load the model once for each"):
        bank.route_rows([None], [1]).__enter__()


def test_model_with_adapters_or_quantised_is_not_saved(base: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    for model in (load_model(str(base), adapters=adapters), load_model(str(base), quantized="int8")):
        with pytest.raises(
            CheckpointError,
            match="a model that is quantised or has unmerged adapters cannot be saved; save it before, or merge the adapter",
        ):
            save_checkpoint(tmp_path / "new", model.network, model.tokenizer)
        assert not list(tmp_path.iterdir())


def test_separate_adapter_on_a_base_with_a_merged_adapter(base: Path, adapters: dict[str, Path]) -> None:
    """A merged adapter is part of the base of a separate one."""
    both = load_model(str(base), adapter=adapters["cook"], adapters={"sport": adapters["sport"]})
    plain = scores(Rig(both).run_stream(options(), ITEMS))
    np.testing.assert_allclose(plain, run_merged(base, adapters, "cook")[0], atol=2e-5, rtol=0)


def test_base_without_heads_requires_an_adapter(base: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    whole = load_model(str(base))
    bare = save_checkpoint(tmp_path / "bare", whole.network, whole.tokenizer)
    tensors = {name: t for name, t in load_file(bare / "model.safetensors").items() if not name.startswith("heads.")}
    save_file(tensors, bare / "model.safetensors")
    engine = Rig(load_model(str(bare), adapters=adapters))
    with pytest.raises(OptionError, match="no heads or no projector of its own; select an adapter: cook, sport"):
        engine.open(with_adapter(None))
    actual_scores = scores(engine.run_stream(with_adapter("sport"), ITEMS))
    np.testing.assert_allclose(actual_scores, run_merged(base, adapters, "sport")[0], atol=2e-5, rtol=0)


def test_unknown_adapter_is_rejected(base: Path, adapters: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match="no adapter 'news'; loaded: cook, sport"):
        Engine(load_model(str(base), adapters=adapters)).open(with_adapter("news"))
    with pytest.raises(OptionError, match="no adapter 'news'; loaded: none"):
        Engine(load_model(str(base))).open(with_adapter("news"))
    with pytest.raises(ModelNotFoundError, match=r"holds no adapter_config\.json"):
        load_model(str(base), adapters={"news": base})


def test_separate_adapter_must_not_change_shared_parts(base: Path, tmp_path: Path) -> None:
    path = adapter(tmp_path / "a", 1)
    tensors = load_file(path / "adapter_model.safetensors")
    head = lively_model().network.lm_head.weight
    save_file({**tensors, "base_model.model.lm_head.weight": head.clone()}, path / "adapter_model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"changes lm_head\.weight, which all sessions share; merge it into the base model instead",
    ):
        load_model(str(base), adapters={"a": path})
    assert load_model(str(base), adapter=path).adapters is None
