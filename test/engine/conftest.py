"""Make the support modules of the engine tests importable, and run small matrix products on one thread."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent / "support"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny products gain nothing from more, and the machine may be busy
    yield
    torch.set_num_threads(threads)
