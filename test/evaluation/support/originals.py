"""Where the original evaluators' data and the numbers they gave lie: beside the project, never in it.

The tests that need them skip where they are not; beside each stands one with numbers worked out by hand, which always runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("MMDUET_SHARED", Path(__file__).resolve().parents[3].parent / "shared")) / "evaluators"


def needs(folder: Path) -> pytest.MarkDecorator:
    """The mark of a test that reads ``folder``."""
    return pytest.mark.skipif(not folder.is_dir(), reason=f"the original evaluators' {folder.name} is not here")
