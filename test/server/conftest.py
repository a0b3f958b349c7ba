"""Fixtures of the server's tests: a shared server, a fast ``mmduet`` command, and one thread for tiny matrices."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fork_server import fork_server
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


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of an ``mmduet`` command that runs in a process of its own without importing torch again."""
    with fork_server(tmp_path_factory.mktemp("fork")) as folder:
        yield folder
