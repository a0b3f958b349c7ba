"""Which attention backends a device has, and which one ``auto`` selects."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal

import torch

from mmduet.engine.attention.backend import Backend
from mmduet.engine.attention.loop import LoopBackend
from mmduet.engine.attention.padded import PaddedBackend, ProductsBackend
from mmduet.engine.attention.varlen import VarlenBackend
from mmduet.errors import OptionError

BackendName = Literal["loop", "padded", "products", "varlen"]
BACKENDS: dict[str, Callable[[], Backend]] = {
    "loop": LoopBackend, "padded": PaddedBackend, "products": ProductsBackend, "varlen": VarlenBackend
}  # fmt: skip


def choose_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """Return the backend ``name``, or with ``auto`` the fastest one that is available and exact.

    Raise ``OptionError`` if it is unknown or not available for the device and number type.
    """
    if name == "auto":
        name = "padded" if unavailable("varlen", device, dtype) else "varlen"
    if name not in BACKENDS:
        raise OptionError(f"attention must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    if reason := unavailable(name, device, dtype):
        raise OptionError(f"attention {name!r} {reason}; use auto, padded or loop")
    return BACKENDS[name]()


def unavailable(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a backend cannot be used on a device with a number type; None if it can."""
    if name == "products" and (device.type, dtype) != ("cpu", torch.bfloat16):
        return f"needs a model in bfloat16 on a CPU, and this one is in {dtype} on {device.type}".replace("torch.", "")
    if name != "varlen":
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, and the model is on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"needs float16 or bfloat16, and the model has {dtype}".replace("torch.", "")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"needs compute capability 8.0, and {torch.cuda.get_device_name(device)} has less"
    if not _has_varlen():
        return (
            f"needs torch.nn.attention.varlen with grouped queries (PyTorch 2.12), and {torch.__version__} is installed"
        )
    return None


def _has_varlen() -> bool:
    """Return whether this PyTorch has the kernel with the arguments that ``torch_kernel`` passes."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "enable_gqa", "seqused_k"} <= inspect.signature(varlen_attn).parameters.keys()
