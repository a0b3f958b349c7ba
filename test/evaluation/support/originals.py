"""Find the data and the numbers of the original evaluators, which are stored beside the project and not in it.

Tests that need them are skipped without them. Each is accompanied by a test with numbers worked out by hand, which always runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("MMDUET_SHARED", Path(__file__).resolve().parents[3].parent / "shared")) / "evaluators"


def needs(folder: Path) -> pytest.MarkDecorator:
    """Return the mark of a test that reads ``folder``."""
    return pytest.mark.skipif(
        not folder.is_dir(), reason=f"the data of the original evaluators ({folder.name}) is not available"
    )
