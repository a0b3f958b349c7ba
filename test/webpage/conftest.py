"""Fixtures of the live page's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--auto-select-desktop-capture-source=Entire screen",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=LocalNetworkAccessChecks",  # for pages that a test serves itself, which use a server
)


@pytest.fixture(
    scope="module"
)  # while it is open, the thread has a running event loop, and other tests use asyncio.run
def browser() -> Iterator[Browser]:
    """A Chromium whose camera is a test pattern."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no browser is installed; run: apt-get install chromium"
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        yield running
        running.close()
