"""``mmduet doctor``: a report of a working installation, and of broken ones."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import typer
from command_line import Command

from mmduet.cli.doctor import print_diagnosis
from mmduet.diagnostics import Diagnosis, diagnose
from mmduet.engine.device_info import DeviceInfo
from mmduet.errors import OptionError


def test_a_working_installation_is_described_and_the_status_is_0(mmduet: Command) -> None:
    done = mmduet("doctor")
    assert done.status == 0
    text = " ".join(done.out.split())
    for part in (f"torch {torch.__version__}", "device cpu CPU", "attention loop available", "decoder H.264 h264"):
        assert part in text


def test_the_json_form_has_devices_with_dtypes_and_attention(mmduet: Command) -> None:
    report = json.loads(mmduet("doctor", "--json").out)
    cpu = next(device for device in report["devices"] if device["name"] == "cpu")
    assert {"float32", "bfloat16"} <= set(cpu["dtypes"])
    assert cpu["attention"]["loop"] is None
    assert "CUDA" in cpu["attention"]["varlen"]
    assert cpu["attention"][cpu["auto_attention"]] is None
    assert 0 < cpu["free_bytes"] < cpu["total_bytes"]
    assert report["processor"]["cores"] >= 1
    assert report["problems"] == []
    assert all(extra["install_command"].startswith("pip install") for extra in report["extras"])


def exit_status(diagnosis: Diagnosis, as_json: bool = False) -> int:
    """Print a report and return the exit status of the command."""
    try:
        print_diagnosis(diagnosis, as_json)
    except typer.Exit as exit_:
        return exit_.exit_code
    return 0


def test_a_broken_core_package_is_a_problem_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def load(module: str) -> object:
        if module == "torch":
            raise OSError("libtorch.so")
        return import_module(module)

    assert exit_status(diagnose(load=load)) == 1
    out = capsys.readouterr().out
    assert "torch cannot be imported: OSError: libtorch.so" in out
    assert "device cpu" in out  # the other parts are reported


def test_a_part_that_cannot_be_examined_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> list[DeviceInfo]:
        raise RuntimeError("the driver is too old")

    assert exit_status(diagnose(describe_devices=fail), as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == ["the devices cannot be examined: RuntimeError: the driver is too old"]
    assert report["decoders"]["H.264"] == "h264"


def test_missing_java_is_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Path:
        raise OptionError("no Java that runs was found; pip install 'mmduet[eval]' installs one")

    assert exit_status(diagnose(find_java=fail)) == 0
    message = "java missing: no Java that runs was found; pip install 'mmduet[eval]' installs one"
    assert message in " ".join(capsys.readouterr().out.split())
