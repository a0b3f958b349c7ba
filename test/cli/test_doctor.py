"""``mmduet doctor``: a report of a working installation, and of broken ones."""

from __future__ import annotations

import json

import pytest
import torch
from command_line import Command

from mmduet.diagnostics import diagnosis as diagnosis_module
from mmduet.diagnostics.packages import Package
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


def test_a_broken_core_package_is_a_problem_with_status_1(monkeypatch: pytest.MonkeyPatch, mmduet: Command) -> None:
    broken = [Package("torch", "2.9", "cannot be imported: OSError: libtorch.so")]
    monkeypatch.setattr(diagnosis_module, "core_packages", lambda: broken)
    done = mmduet("doctor")
    assert done.status == 1
    assert "torch cannot be imported: OSError: libtorch.so" in done.out
    assert "device cpu" in done.out  # the rest is reported all the same


def test_a_part_that_cannot_be_examined_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, mmduet: Command
) -> None:
    def fail() -> None:
        raise RuntimeError("the driver is too old")

    monkeypatch.setattr("mmduet.engine.device_info.describe_devices", fail)
    done = mmduet("doctor", "--json")
    report = json.loads(done.out)
    assert done.status == 1
    assert report["problems"] == ["the devices cannot be examined: RuntimeError: the driver is too old"]
    assert report["decoders"]["H.264"] == "h264"


def test_missing_java_is_no_problem(monkeypatch: pytest.MonkeyPatch, mmduet: Command) -> None:
    def fail() -> None:
        raise OptionError("no Java that runs was found; pip install 'mmduet[eval]' installs one")

    monkeypatch.setattr(diagnosis_module, "find_java", fail)
    done = mmduet("doctor")
    assert done.status == 0
    message = "java missing: no Java that runs was found; pip install 'mmduet[eval]' installs one"
    assert message in " ".join(done.out.split())
