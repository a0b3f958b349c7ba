"""Mixed precision of training: bfloat16 products on any device, weights and losses in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """Let the operations on ``device`` that gain from it run in bfloat16 while the block runs."""
    with torch.autocast(device.type, torch.bfloat16):
        yield
