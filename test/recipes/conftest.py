"""Run the tests of this folder on one thread."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads do not help with tiny matrices
    yield
    torch.set_num_threads(threads)
