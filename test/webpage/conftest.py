"""Fixtures of the live page's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_driver import open_chromium
from playwright.sync_api import Browser


# Not for the session: while a browser is open, the thread has a running event loop, and other tests call asyncio.run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium whose camera is a test pattern."""
    with open_chromium() as running:
        yield running
