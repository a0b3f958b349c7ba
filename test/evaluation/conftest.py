"""One METEOR for all tests of evaluators: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmduet.evaluation.scorers.meteor import Meteor


@pytest.fixture(scope="session")
def meteor() -> Iterator[Meteor]:
    with Meteor() as running:
        yield running
