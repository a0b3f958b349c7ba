"""Names of devices and number types, and what a model uses by default. CUDA devices are simulated by replacing queries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmduet.errors import OptionError
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.devices import (
    MAX_AUTO_FLOAT32_PARAMETERS,
    available_devices,
    check_dtype,
    resolve_device,
    resolve_dtype,
)
from mmduet.model.placement import resolve_placement
from mmduet.model.presets import byte_tokenizer, random_config, random_model
from mmduet.model.source import find_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)
SMALL, LARGE = MAX_AUTO_FLOAT32_PARAMETERS, MAX_AUTO_FLOAT32_PARAMETERS + 1


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch report a machine without accelerators."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch report two CUDA devices without bfloat16, of which the second is current."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: including_emulation)


@pytest.mark.usefixtures("no_accelerator")
def test_auto_is_the_cpu_without_cuda() -> None:
    assert (resolve_device("auto"), available_devices()) == (CPU, [CPU])


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", CUDA), ("cuda", CUDA), ("cuda:0", torch.device("cuda", 0)), (CUDA, CUDA), ("cpu", CPU), (CPU, CPU)],
)
def test_devices_are_resolved_to_an_index(name: str | torch.device, expected: torch.device) -> None:
    assert resolve_device(name) == expected


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["meta", "cuda:", "cuda:-1", "cuda:01", "CUDA", "cpu:1", "xpu", "", "gpu"])
def test_a_malformed_device_is_an_error_that_lists_forms_and_devices(name: str) -> None:
    with pytest.raises(OptionError, match=r"device must be auto, cpu, cuda, cuda:N or mps, got '.*'; available: cpu$"):
        resolve_device(name)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device cuda is not available: .*available: cpu$"),
        ("mps", "device mps is not available; available: cpu$"),
    ],
)
def test_an_absent_device_is_an_error_that_lists_devices(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_an_index_beyond_the_last_device_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"device cuda:2 is not available; available: cpu, cuda:0, cuda:1$"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("dtype", "stored", "parameters", "expected"),
    [
        ("auto", torch.bfloat16, SMALL, torch.float32),
        ("auto", torch.bfloat16, LARGE, torch.bfloat16),
        ("auto", torch.float16, LARGE, torch.float16),
        ("stored", torch.bfloat16, SMALL, torch.bfloat16),
        ("float16", torch.bfloat16, LARGE, torch.float16),
        (torch.bfloat16, torch.float32, SMALL, torch.bfloat16),
    ],
)
def test_the_dtype_on_a_cpu(
    dtype: str | torch.dtype, stored: torch.dtype, parameters: int, expected: torch.dtype
) -> None:
    assert resolve_dtype(dtype, CPU, stored, parameters) == expected


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_the_dtype_on_cuda_is_the_stored_one(monkeypatch: pytest.MonkeyPatch, stored: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.device("cpu"))
    assert resolve_dtype("auto", CUDA, stored, SMALL) == stored


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("dtype", ["auto", "stored", "bfloat16"])
def test_bfloat16_on_a_cuda_device_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.device("cpu"))
    with pytest.raises(OptionError, match=r"cuda:1 does not support bfloat16 weights; use a dtype of .*float16$"):
        resolve_dtype(dtype, CUDA, torch.bfloat16, LARGE)


def test_float64_on_mps_is_an_error() -> None:
    with pytest.raises(OptionError, match="mps does not support float64 weights"):
        check_dtype(torch.float64, torch.device("mps"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_type_that_weights_cannot_have_is_an_error(dtype: torch.dtype) -> None:
    with pytest.raises(OptionError, match="cpu does not support"):
        resolve_dtype(dtype, CPU, torch.float32, SMALL)


def test_an_unknown_dtype_is_an_error() -> None:
    with pytest.raises(OptionError, match="dtype must be one of auto, stored, float32, bfloat16, float16, got 'half'"):
        resolve_dtype("half", CPU, torch.float32, SMALL)


@pytest.mark.parametrize(
    ("size", "expected"), [("tiny", torch.float32), ("7b", torch.bfloat16), ("0.5b", torch.float32)]
)
def test_random_models_of_published_shapes_are_stored_in_bfloat16(size: str, expected: torch.dtype) -> None:
    assert resolve_placement(find_model(f"random:{size}"), "cpu").dtype == expected


def test_a_checkpoint_is_loaded_in_float32_on_a_cpu_and_as_stored_on_request(tmp_path: Path) -> None:
    tiny = random_model(random_config("tiny"))
    save_checkpoint(tmp_path / "half", tiny, byte_tokenizer(), dtype=torch.bfloat16)
    assert load_model(tmp_path / "half", device="cpu").network.dtype == torch.float32
    assert load_model(tmp_path / "half", "stored", "cpu").network.dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"device": "meta"}, {"dtype": "float8"}, {"dtype": torch.int32}])
def test_wrong_options_of_load_model_are_errors(options: dict[str, str | torch.dtype]) -> None:
    with pytest.raises(OptionError):
        load_model("random:tiny", **options)  # type: ignore[arg-type]
