"""``scripts/train.sh`` and ``mmduet train RECIPE``: from annotations to an adapter that is served, and several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llava import original_layout, random_llava
from safetensors.torch import load_file
from typer.testing import CliRunner

from mmduet.cli.main import app
from mmduet.client import RemoteStream
from mmduet.events import Frame, Query, Reply, Scores
from mmduet.model import load_model
from mmduet.scenes import SplitSpec, make_split

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
model: {model}
method: {{kind: lora, rank: 4, dropout: 0}}
data:
  - {{name: scenes, kind: scenes, videos: scenes}}
sampling: {{fps: 2, max_frames: 40, max_frames_before_question: 2}}
optimization: {{epochs: 1, max_samples_per_batch: 2, learning_rate: 1e-2, workers: 1}}
precision: float32
"""
STEPS = ("--set", "optimization.steps=3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a split of rendered videos, and a recipe for the smallest model."""
    make_split(tmp_path / "scenes", SplitSpec("train", 2, 5), workers=1)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model="random:tiny"))
    return tmp_path


def train(folder: Path, output: str, *options: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the script from another folder than that of the recipe."""
    return subprocess.run(
        [ROOT / "scripts/train.sh", "../recipe.yaml", "--output", f"../{output}", "--device", "cpu", *options],
        cwd=folder / "scenes",
        env={**os.environ, "OMP_NUM_THREADS": "1", "NPROC": str(processes), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Serve a model in its own process; yield its address."""
    environment = {**os.environ, "MMDUET_MAX_UTILIZATION": "inf", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmduet", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            yield f"127.0.0.1:{line.split('127.0.0.1:')[1].split('/')[0]}"
        finally:
            server.kill()


def test_annotations_become_an_adapter_that_is_served(folder: Path) -> None:
    base = original_layout(random_llava(), folder / "base")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=base))
    done = train(folder, "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the model is in {Path('..', 'run', 'model')}\n"
    assert "Warning" not in done.stderr
    adapter = folder / "run" / "model"
    assert "scenes" in (adapter / "README.md").read_text()
    assert {"lm", "informative", "relevance"} <= {name for row in rows(folder / "run") for name in row}
    model = load_model(base, adapter=adapter)
    assert torch.isfinite(model.network.heads["informative"].weight).all()
    assert model.network.config.recommended.fps == 2.0
    options = ("--model", str(base), "--adapter", str(adapter))
    with served(*options) as address, RemoteStream(address, encoding="png") as stream:
        stream.update(duet={"speak": {"policy": "threshold", "value": 0.0}}, max_output_tokens=4)
        stream.push(Query("What happens?"))
        stream.push(Frame(0, 0.0, np.zeros((56, 56, 3), np.uint8)))
        stream.end()
        outputs = list(stream.outputs())
    assert [type(output) for output in outputs if isinstance(output, Scores | Reply)] == [Scores, Reply], outputs


@pytest.mark.slow
def test_two_processes_compute_the_loss_of_one(folder: Path) -> None:
    """One process accumulates the gradients of the batches that two processes compute at the same time."""
    assert train(folder, "one", *STEPS, "--set", "optimization.accumulation=2").returncode == 0
    done = train(folder, "two", *STEPS, processes=2)
    assert done.returncode == 0, done.stderr
    one, two = rows(folder / "one"), rows(folder / "two")
    assert [row["tokens"] for row in one] == [row["tokens"] for row in two]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in one] == pytest.approx([row[name] for row in two], rel=1e-4)
    for name, tensor in load_file(folder / "one/model/adapter_model.safetensors").items():
        other = load_file(folder / "two/model/adapter_model.safetensors")[name]
        torch.testing.assert_close(tensor, other, rtol=1e-3, atol=2e-5)


def test_memory_is_estimated_without_training() -> None:
    done = CliRunner().invoke(app, ["train", "lora", "--estimate", "--device", "cpu", "--set", "model=random:0.5b"])
    assert done.exit_code == 0, done.output
    assert "peak of the run" in done.stdout
    missing = CliRunner().invoke(app, ["train", "lora"])
    assert "--output is missing" in str(missing.exception)


def test_recipes_need_not_be_introduced_by_a_word(tmp_path: Path) -> None:
    for arguments in (["nosuch"], ["recipe", "nosuch"], ["--output", str(tmp_path), "nosuch"]):
        done = CliRunner().invoke(
            app, ["train", *arguments, *(["--output", str(tmp_path)] * (arguments[-1] == "nosuch"))]
        )
        assert "recipe 'nosuch' is not part of mmduet" in str(done.exception)
    shown = CliRunner().invoke(app, ["train", "--help"])
    assert "RECIPE|nano" in shown.output
