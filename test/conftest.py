"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # tests that download do so from a hub on loopback, in processes of their own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: several test processes share the cores

from hypothesis import settings

if TYPE_CHECKING:
    from mmduet.evaluation.scorers.meteor import Meteor

settings.register_profile("no-deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no-deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--device``."""
    parser.addoption("--device", default="cpu", help="Device of all models in tests: cpu, cuda, cuda:N or mps.")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the device before torch looks for devices."""
    from device_option import choose_device

    from mmduet.errors import OptionError

    try:
        choose_device(config.getoption("--device"))
    except OptionError as error:
        raise pytest.UsageError(f"--device: {error}") from None


@pytest.fixture(scope="session")
def meteor() -> Iterator[Meteor]:
    """Share one METEOR process between all tests, because it takes seconds to start."""
    from mmduet.evaluation.scorers.meteor import Meteor

    with Meteor() as running:
        yield running
