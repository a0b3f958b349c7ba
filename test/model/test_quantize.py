"""Quantised language models: smaller, with similar outputs, and everything else unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import in_process, write_video
from duet_rig import Rig, frames, lively_model, options, scores

from mmduet.errors import OptionError
from mmduet.events import Query
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.quantize import quantize, weight_bytes
from mmduet.scenes import SplitSpec, make_split

ITEMS = [Query("What?", 0.0), *frames(8)]


@pytest.mark.parametrize(("kind", "error", "smaller"), [("int8", 0.02, 0.45), ("nf4", 0.15, 0.35)])
@torch.inference_mode()
def test_linear_layers_of_the_language_model_keep_similar_outputs_and_others_are_unchanged(
    kind, error: float, smaller: float
) -> None:
    plain, other = load_model("nano").network, load_model("nano").network
    before = weight_bytes(other.lm)
    quantize(other, kind)
    assert weight_bytes(other.lm.layers) < smaller * weight_bytes(plain.lm.layers)
    assert weight_bytes(other.lm) < before
    generator, matrices = torch.Generator().manual_seed(0), 0
    for (name, one), (_, two) in zip(plain.named_modules(), other.named_modules(), strict=True):
        if isinstance(one, torch.nn.Linear):
            rows = torch.randn(5, one.in_features, generator=generator)
            expected = one(rows)
            off = (two(rows) - expected).norm() / expected.norm()
            inside = name.startswith("lm.layers")
            assert (0 < off < error) if inside else off == 0
            matrices += inside
    assert matrices == 4 * 7


@pytest.mark.parametrize(("kind", "max_difference"), [("int8", 0.05), ("nf4", 0.2)])
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


def test_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(OptionError, match="quantize must be int8 or nf4, got 'int3'"):
        quantize(lively_model().network, "int3")  # type: ignore[arg-type]


def test_a_missing_library_is_reported_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(OptionError, match=r"quantised weights need bitsandbytes; run: pip install 'mmduet\[quant\]'"):
        load_model("random:tiny", quantized="int8")


def test_the_drift_command_measures_nano_on_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_split(tmp_path / "split", SplitSpec("test", 1, 11, 10.0, 10.5), workers=1)
    drift = in_process(monkeypatch, capsys, "scenes", "drift", tmp_path / "split", "--json", tmp_path / "drift.json")
    done = drift("--quantized", "int8")
    figures = json.loads((tmp_path / "drift.json").read_text())
    assert done.status == 0
    assert figures["frames"] >= 80
    assert figures["spoken"] > 2
    assert 0 < figures["informative_mean"] < 0.02
    assert figures["decisions_changed"] <= 2
    assert figures["weight_bytes"] < figures["plain_weight_bytes"]
    assert "relevance_max" in done.out
