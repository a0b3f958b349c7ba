"""Devices and number types: which ones exist on this machine, and which ones a model uses by default."""

from __future__ import annotations

import re
from typing import Literal, get_args

import torch

from mmduet.errors import OptionError

DtypeName = Literal["auto", "stored", "float32", "bfloat16", "float16"]
DEVICE_FORMS = "auto, cpu, cuda, cuda:N or mps"
MAX_AUTO_FLOAT32_PARAMETERS = 1_000_000_000
"""Parameters up to which ``auto`` computes in float32 on a CPU; larger models would take too much memory."""

_DEVICE_FORM = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?|mps(:0)?")


def available_devices() -> list[torch.device]:
    """Return every device that a model can be loaded on: the CPU, CUDA devices by index, and MPS."""
    cuda = [torch.device("cuda", index) for index in range(torch.cuda.device_count() if _has_cuda() else 0)]
    return [torch.device("cpu"), *cuda, *([torch.device("mps")] if torch.backends.mps.is_available() else [])]


def resolve_device(device: torch.device | str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is the current CUDA device if there is one, else the CPU.

    ``cuda`` without an index is the current CUDA device. ``mps`` is experimental, so ``auto`` never selects it. Raises
    ``OptionError`` for a name of another form and for a device that does not exist.
    """
    name = str(device)
    if not _DEVICE_FORM.fullmatch(name):
        raise OptionError(f"device must be {DEVICE_FORMS}, got {name!r}; available: {_describe_available()}")
    if name == "auto":
        name = "cuda" if _has_cuda() else "cpu"
    found = torch.device("cuda", torch.cuda.current_device()) if name == "cuda" and _has_cuda() else torch.device(name)
    found = torch.device("mps") if found.type == "mps" else found
    if found not in available_devices():
        raise OptionError(f"device {name} is not available{_cuda_hint(found)}; available: {_describe_available()}")
    return found


def resolve_dtype(dtype: torch.dtype | str, device: torch.device, stored: torch.dtype, parameters: int) -> torch.dtype:
    """Return the number type for a model of ``parameters`` parameters whose weights are ``stored`` in a type.

    ``auto`` is the stored type on accelerators; on a CPU it is float32 up to ``MAX_AUTO_FLOAT32_PARAMETERS`` parameters, else
    the stored type. Raises ``OptionError`` for another name, and for a type that ``device`` cannot compute in.
    """
    if isinstance(dtype, str) and dtype not in get_args(DtypeName):
        raise OptionError(f"dtype must be one of {', '.join(get_args(DtypeName))}, got {dtype!r}")
    if dtype == "auto":
        is_small = device.type == "cpu" and parameters <= MAX_AUTO_FLOAT32_PARAMETERS
        dtype = torch.float32 if is_small else stored
    elif dtype == "stored":
        dtype = stored
    found = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    check_dtype(found, device)
    return found


def check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``OptionError`` if a model cannot compute in ``dtype`` on ``device``."""
    if dtype not in supported_dtypes(device):
        supported = ", ".join(dtype_name(each) for each in supported_dtypes(device))
        raise OptionError(f"{device} does not support {dtype_name(dtype)} weights; use a dtype of {supported}")


def supported_dtypes(device: torch.device) -> list[torch.dtype]:
    """Return the number types that models can compute in on ``device``."""
    match device.type:
        case "cuda":
            with torch.cuda.device(device):
                has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
            return [torch.float64, torch.float32, *([torch.bfloat16] if has_bfloat16 else []), torch.float16]
        case "mps":
            return [torch.float32, torch.bfloat16, torch.float16]
        case _:
            return [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a number type as users write it, such as ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _describe_available() -> str:
    return ", ".join(map(str, available_devices()))


def _cuda_hint(device: torch.device) -> str:
    """Return why there is no CUDA device at all, as the end of a clause; empty if the cause is another one."""
    if device.type != "cuda" or _has_cuda():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return ": this build of PyTorch has no CUDA; install one that has"
    return ": PyTorch finds no CUDA device or no driver; check nvidia-smi and CUDA_VISIBLE_DEVICES"
