"""The device that tests run models on: ``pytest --device NAME``, by default the CPU.

The other devices are hidden from the test process and from the processes that it starts, so that everything which chooses its
device by itself uses this one: ``load_model``, commands and servers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

VISIBLE_DEVICES, CHOSEN = "CUDA_VISIBLE_DEVICES", "PYTEST_MODEL_DEVICE"
# read by PyTorch; read by device()


def choose_device(name: str) -> None:
    """Run the tests on ``name``: cpu, cuda, cuda:N or mps. Raises ``OptionError`` if it is not available."""
    kind, _, index = name.partition(":")
    if kind in ("cpu", "mps"):
        os.environ[VISIBLE_DEVICES] = ""
    elif kind == "cuda" and index.isdigit():
        os.environ[VISIBLE_DEVICES] = _nth_visible(int(index))
    os.environ[CHOSEN] = "cuda" if kind == "cuda" else name
    if name != "cpu":  # importing torch takes seconds, which tests without it need not wait for
        from mmduet.model.devices import resolve_device

        resolve_device(os.environ[CHOSEN])


def device() -> torch.device:
    """Return the device that models of tests are built on."""
    import torch

    return torch.device(os.environ.get(CHOSEN, "cpu"))


def _nth_visible(index: int) -> str:
    visible = os.environ.get(VISIBLE_DEVICES, "")
    return visible.split(",")[index] if index < len(visible.split(",")) and visible else str(index)
