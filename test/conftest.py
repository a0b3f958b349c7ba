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


@pytest.fixture(scope="session")
def meteor() -> Iterator[Meteor]:
    """Share one METEOR process between all tests, because it takes seconds to start."""
    from mmduet.evaluation.scorers.meteor import Meteor

    with Meteor() as running:
        yield running
