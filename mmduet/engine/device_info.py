"""Describe the devices of this machine: memory, number types and attention backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch

from mmduet.engine.attention import choose_backend, unavailable
from mmduet.engine.attention.choice import BackendName
from mmduet.engine.memory import free_bytes, host_memory
from mmduet.model.devices import available_devices, dtype_name, supported_dtypes


@dataclass(frozen=True)
class DeviceInfo:
    """A device that models can run on.

    Attributes:
        name: The name that ``--device`` takes.
        description: The product, such as ``NVIDIA H200``.
        total_bytes: Memory of the device; for the CPU that of this process, with the limits of containers.
        free_bytes: Memory that can still be allocated.
        dtypes: The number types that models can compute in.
        attention: Attention backends by name, each with why it cannot be used, or None.
        auto_attention: The backend that ``auto`` selects.
    """

    name: str
    description: str
    total_bytes: int
    free_bytes: int
    dtypes: tuple[str, ...]
    attention: dict[str, str | None]
    auto_attention: str

    def to_dict(self) -> dict[str, Any]:
        """Return the device under the names of the report of ``mmduet doctor``."""
        return {
            "name": self.name,
            "description": self.description,
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "dtypes": self.dtypes,
            "attention": dict(self.attention),
            "auto_attention": self.auto_attention,
        }


def describe_devices() -> list[DeviceInfo]:
    """Return a description of every device, the CPU first."""
    return [describe_device(device) for device in available_devices()]


def describe_device(device: torch.device) -> DeviceInfo:
    """Return the description of one device. The attention backends are those for a model in the type that suits the device."""
    dtypes = supported_dtypes(device)
    dtype = _usual_dtype(device, dtypes)
    description, total = _product_and_memory(device)
    return DeviceInfo(
        str(device),
        description,
        total,
        free_bytes(device),
        tuple(map(dtype_name, dtypes)),
        {name: unavailable(name, device, dtype) for name in get_args(BackendName)},
        choose_backend("auto", device, dtype).name,
    )


def _usual_dtype(device: torch.device, supported: list[torch.dtype]) -> torch.dtype:
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.bfloat16 in supported else torch.float16


def _product_and_memory(device: torch.device) -> tuple[str, int]:
    """Return the product's name and the total memory of a device in bytes."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = f"compute capability {properties.major}.{properties.minor}"
        return f"{properties.name}, {capability}", properties.total_memory
    if device.type == "mps":
        return "Apple GPU (experimental)", torch.mps.recommended_max_memory()
    return f"CPU, kernels for {torch.backends.cpu.get_cpu_capability()}", host_memory().total
