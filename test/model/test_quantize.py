"""Quantised language models: smaller, with similar outputs, and everything else unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import in_process, write_video
from duet_rig import Rig, frames, lively_model, options, scores

from mmduet.cli.scenes import DriftOptions
from mmduet.errors import CheckpointError, OptionError
from mmduet.events import Query
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.quantize import quantize, quantize_layer_to_fp8, quantize_tower, weight_bytes
from mmduet.model.scaled_linear import ScaledLinear
from mmduet.scenes import SplitSpec, make_split

ITEMS = [Query("What?", 0.0), *frames(8)]


@pytest.mark.parametrize(("kind", "error", "smaller"), [("int8", 0.02, 0.45), ("nf4", 0.15, 0.35), ("fp8", 0.04, 0.45)])
@torch.inference_mode()
def test_linear_layers_of_the_language_model_keep_similar_outputs_and_others_are_unchanged(
    kind, error: float, smaller: float
) -> None:
    plain, other = load_model("nano").network, load_model("nano").network
    before = weight_bytes(other.lm)
    quantize(other, kind)
    assert weight_bytes(other.lm.layers) < smaller * weight_bytes(plain.lm.layers)
    assert weight_bytes(other.lm) < before
    assert compare_linear_layers(plain, other, error, "lm.layers") == 4 * 7


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.02), ("fp8", 0.04)])
@torch.inference_mode()
def test_linear_layers_of_the_tower_keep_similar_outputs_and_others_are_unchanged(kind, error: float) -> None:
    plain, other = load_model("nano").network, load_model("nano", quantized_tower=kind).network
    blocks = other.tower.siglip.encoder.layers
    assert weight_bytes(blocks) < 0.3 * weight_bytes(plain.tower.siglip.encoder.layers)
    assert compare_linear_layers(plain, other, error, "tower.siglip.encoder.layers") == len(blocks) * 6


def compare_linear_layers(plain: torch.nn.Module, other: torch.nn.Module, error: float, quantized: str) -> int:
    """Check the outputs of all linear layers of two models; return the number of those inside ``quantized``."""
    generator, matrices = torch.Generator().manual_seed(0), 0
    for name, one in plain.named_modules():
        if isinstance(one, torch.nn.Linear):
            rows = torch.randn(5, one.in_features, generator=generator)
            expected = one(rows)
            off = (other.get_submodule(name)(rows) - expected).norm() / expected.norm()
            inside = name.startswith(quantized)
            assert (0 < off < error) if inside else off == 0
            matrices += inside
    return matrices


@pytest.mark.parametrize(("kind", "max_difference"), [("int8", 0.05), ("nf4", 0.2), ("fp8", 0.1)])
def test_an_engine_gives_similar_scores_with_a_quantised_model(
    kind, max_difference: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = lively_model()
    base = str(save_checkpoint(tmp_path / "base", model.network, model.tokenizer))
    expected = scores(Rig(load_model(base)).run_stream(options(), ITEMS))
    found = scores(Rig(load_model(base, quantized=kind)).run_stream(options(), ITEMS))
    assert 0 < np.abs(np.subtract(found, expected)).mean() < max_difference
    other = scores(Rig(lively_model(seed=5)).run_stream(options(), ITEMS))
    assert np.abs(np.subtract(other, expected)).mean() > 0.25  # an unrelated model differs more
    assert "MatMul8bitLt" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_commands_with_quantised_models_print_no_messages_of_libraries(kind: str, tmp_path: Path) -> None:
    """bitsandbytes and Transformers write to stderr when they are imported, so this needs a new process."""
    video = write_video(tmp_path / "clip.mp4", 1.0)
    command = [
        sys.executable,
        "-m",
        "mmduet",
        "run",
        str(video),
        "--model",
        "random:tiny",
        "--quantized",
        kind,
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_an_engine_gives_similar_scores_with_a_quantised_tower(kind, tmp_path: Path) -> None:
    model = lively_model()
    base = str(save_checkpoint(tmp_path / "base", model.network, model.tokenizer))
    expected = scores(Rig(load_model(base)).run_stream(options(), ITEMS))
    found = scores(Rig(load_model(base, quantized_tower=kind)).run_stream(options(), ITEMS))
    assert 0 < np.abs(np.subtract(found, expected)).mean() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_fp8_need_half_of_the_memory(dtype: torch.dtype) -> None:
    sizes = []
    for kind in (None, "fp8"):
        model = load_model("random:tiny", dtype, quantized=kind, quantized_tower=kind).network
        blocks = [model.lm.layers, model.tower.siglip.encoder.layers]
        sizes.append(sum(weight_bytes(layer) for part in blocks for layer in part.modules() if is_linear(layer)))
    assert sizes[1] < 0.56 * sizes[0]  # small layers have relatively many scales and biases


def is_linear(layer: torch.nn.Module) -> bool:
    return isinstance(layer, torch.nn.Linear | ScaledLinear)


def test_a_quantised_model_is_not_saved(tmp_path: Path) -> None:
    for kinds in ({"quantized": "fp8"}, {"quantized_tower": "int8"}):
        model = load_model("random:tiny", **kinds)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match="a model that is quantised or has unmerged adapters cannot be saved"):
            save_checkpoint(tmp_path / "new", model.network, model.tokenizer)


def test_fp8_is_rejected_on_devices_without_the_number_type() -> None:
    layer = torch.nn.Linear(4, 4, device="meta")
    model = SimpleNamespace(lm=SimpleNamespace(layers=torch.nn.ModuleList([layer])))
    quantize(model, "fp8")  # type: ignore[arg-type]
    assert model.lm.layers[0].weight.device.type == "meta"
    layer = SimpleNamespace(weight=SimpleNamespace(device=torch.device("mps")))
    with pytest.raises(OptionError, match="fp8 weights are not available on mps; use the CPU or a CUDA device"):
        quantize_layer_to_fp8(layer)  # type: ignore[arg-type]


def test_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(OptionError, match="quantize must be int8, nf4 or fp8, got 'int3'"):
        quantize(lively_model().network, "int3")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="quantize_tower must be int8 or fp8, got 'nf4'"):
        quantize_tower(lively_model().network, "nf4")  # type: ignore[arg-type]


def test_a_missing_library_is_reported_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(OptionError, match=r"quantised weights need bitsandbytes; run: pip install 'mmduet\[quant\]'"):
        load_model("random:tiny", quantized="int8")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a split with one short clip."""
    directory = tmp_path_factory.mktemp("scenes") / "split"
    make_split(directory, SplitSpec("test", 1, 11, 10.0, 10.5), workers=1)
    return directory


@pytest.mark.parametrize(
    ("arguments", "max_drift"),
    [
        ([], 0.02),
        (["--quantized-tower", "int8", "--dtype", "bfloat16", "--baseline-dtype", "float32"], 0.05),
        pytest.param(["--quantized", "fp8"], 0.02, marks=pytest.mark.slow),
        pytest.param(["--quantized-tower", "fp8"], 0.05, marks=pytest.mark.slow),
        pytest.param(["--dtype", "bfloat16", "--baseline-dtype", "float32"], 0.05, marks=pytest.mark.slow),
    ],
)
def test_the_drift_command_measures_nano_on_a_clip(
    arguments: list[str],
    max_drift: float,
    split: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drift = in_process(monkeypatch, capsys, "scenes", "drift", split, "--json", tmp_path / "drift.json")
    done = drift(*arguments)
    figures = json.loads((tmp_path / "drift.json").read_text())
    assert done.status == 0
    assert figures["frames"] >= 80
    assert figures["spoken"] > 2
    assert 0 < figures["informative_mean"] < max_drift
    assert figures["decisions_changed"] <= 2
    assert figures["weight_bytes"] < figures["plain_weight_bytes"]
    assert "relevance_max" in done.out


def test_the_drift_command_compares_int8_unless_other_differences_are_given() -> None:
    plain = DriftOptions(directory=Path())
    assert plain.completed().quantized == "int8"
    tower = DriftOptions(directory=Path(), quantized_tower="int8").completed()
    assert (tower.quantized, tower.baseline().quantized_tower) == (None, None)
    halved = DriftOptions(directory=Path(), dtype="bfloat16", baseline_dtype="float32").completed()
    assert (halved.quantized, halved.dtype, halved.baseline().dtype) == (None, "bfloat16", "float32")
