"""Lets the server's tests import their helpers, and keeps tiny matrices on one thread."""

from collections.abc import Iterator

import pytest
import torch
from served import Served, serving


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server
