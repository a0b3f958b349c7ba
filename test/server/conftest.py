"""Fixtures of the server's tests: a shared server, and one thread for tiny matrices."""

from collections.abc import Iterator

import pytest
import torch
from live_server import RunningServer, run_test_server


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server() as server:
        yield server
