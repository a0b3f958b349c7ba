"""The number of CPU threads of a command."""

from __future__ import annotations

import os
from typing import Annotated

from typer import Option

Threads = Annotated[int | None, Option(min=1, help="Number of CPU threads.", show_default="PyTorch's")]


def use_threads(count: int | None) -> None:
    """Let PyTorch use ``count`` threads; None leaves its choice. Call this before torch is imported, which reads it."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(count)
