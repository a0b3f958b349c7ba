"""The share of time of each fuzz target."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import SECONDS

HERE = Path(__file__).parent


@pytest.fixture
def share(request: pytest.FixtureRequest) -> float:
    """Seconds of one target; 0 in the default tests."""
    targets = [item for item in request.session.items if HERE in item.path.parents]
    return SECONDS / len(targets)
