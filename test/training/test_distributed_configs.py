"""The configurations of DeepSpeed and of FSDP2 are what Transformers and Accelerate read. They are not run here."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.launch import prepare_multi_gpu_env
from transformers import TrainingArguments
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

import mmduet.recipes
from mmduet.model.presets import SHAPES, random_model

FOLDER = Path(mmduet.recipes.__file__).parent
STAGES = {"zero2.json": 2, "zero3.json": 3}


class DeepSpeedConfig(HfTrainerDeepSpeedConfig, HfDeepSpeedConfig):  # type: ignore[misc]
    """Transformers' reader on Accelerate's, which is its base where DeepSpeed is installed."""

    def __init__(self, path: Path) -> None:
        HfDeepSpeedConfig.__init__(self, str(path))
        self._dtype = None
        self.mismatches: list[str] = []


@pytest.mark.parametrize("name", STAGES)
def test_deepspeed_takes_every_value_from_the_recipe(name: str, tmp_path: Path) -> None:
    found = DeepSpeedConfig(FOLDER / "deepspeed" / name)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), bf16=True, gradient_accumulation_steps=4, max_grad_norm=0.5, use_cpu=True
    )
    found.trainer_config_process(arguments)
    found.trainer_config_finalize(
        arguments, None, 100
    )  # no value depends on a hidden size, which duet models do not have
    assert found.mismatches == []
    assert "auto" not in json.dumps(found.config)
    assert found.config["bf16"] == {"enabled": True}
    assert found.config["gradient_accumulation_steps"] == 4
    assert found.config["gradient_clipping"] == 0.5
    assert found.config["zero_optimization"]["stage"] == STAGES[name]
    assert found.is_zero3() == (STAGES[name] == 3)
    assert not found.is_offload()
    assert "optimizer" not in found.config  # the trainer's own
    assert "scheduler" not in found.config


def test_deepspeed_3_saves_whole_weights() -> None:
    config = json.loads((FOLDER / "deepspeed" / "zero3.json").read_text())
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


@pytest.fixture
def fsdp_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment that ``accelerate launch`` gives its processes for the shipped configuration."""
    config = load_config_from_file(str(FOLDER / "accelerate" / "fsdp2.yaml"))
    assert isinstance(config, ClusterConfig)
    arguments = launch_command_parser().parse_args(["--use_fsdp", "--dynamo_backend", "no", "script.py"])
    values: dict[str, Any] = {**config.to_dict(), **config.fsdp_config}
    known = {name: value for name, value in values.items() if hasattr(arguments, name)}
    assert {name for name in config.fsdp_config if name not in known} == set()
    environment: dict[str, str] = prepare_multi_gpu_env(Namespace(**{**vars(arguments), **known}))
    found = {name: value for name, value in environment.items() if name.startswith(("FSDP_", "ACCELERATE_"))}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def test_fsdp_shards_the_layers_of_a_duet_model(fsdp_environment: dict[str, str]) -> None:
    assert fsdp_environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.activation_checkpointing is False
    network = random_model(SHAPES["tiny"])
    plugin.set_auto_wrap_policy(network)
    wrapped = {
        name
        for name, module in network.named_modules()
        if plugin.auto_wrap_policy(module, recurse=False, nonwrapped_numel=0)
    }
    text, vision = SHAPES["tiny"].text.layers, SHAPES["tiny"].vision.layers
    assert wrapped == {
        *(f"lm.layers.{index}" for index in range(text)),
        *(f"tower.siglip.encoder.layers.{index}" for index in range(vision)),
    }


def test_the_configurations_are_part_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["mmduet"]
    files = {path for folder in ("deepspeed", "accelerate") for path in (FOLDER / folder).iterdir()}
    shipped = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert {path.name for path in files} == {"zero2.json", "zero3.json", "fsdp2.yaml"}
    assert files <= shipped
