"""The type of progress callbacks."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with the number of finished items and the number of all items."""
