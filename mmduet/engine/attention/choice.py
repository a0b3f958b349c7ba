"""Which attention backends a device has, and which one ``auto`` selects."""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch

from mmduet.engine.attention.backend import Backend
from mmduet.engine.attention.loop import LoopBackend
from mmduet.engine.attention.padded import PaddedBackend
from mmduet.engine.attention.varlen import VarlenBackend
from mmduet.errors import OptionError

BackendName = Literal["loop", "padded", "varlen"]
BACKENDS: dict[str, type[LoopBackend] | type[PaddedBackend] | type[VarlenBackend]] = {
    "loop": LoopBackend, "padded": PaddedBackend, "varlen": VarlenBackend
}  # fmt: skip


def choose_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """Return the backend ``name``, or with ``auto`` the fastest one that is available.

    Raise ``OptionError`` if it is unknown or not available for the device and number type.
    """
    if name == "auto":
        name = "padded" if unavailable("varlen", device, dtype) else "varlen"
    if name not in BACKENDS:
        raise OptionError(f"attention must be auto, {', '.join(BACKENDS)}, got {name!r}")
    if reason := unavailable(name, device, dtype):
        raise OptionError(f"attention {name!r} {reason}; use auto, padded or loop")
    return BACKENDS[name]()


def unavailable(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a backend cannot be used on a device with a number type; None if it can."""
    if name != "varlen":
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, and the model is on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"needs float16 or bfloat16, and the model has {dtype}".replace("torch.", "")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"needs compute capability 8.0, and {torch.cuda.get_device_name(device)} has less"
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"needs PyTorch 2.10 or later, and {torch.__version__} is installed"
    return None
