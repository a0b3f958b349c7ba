"""A server with the live page, and a real browser, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from live_server import RunningServer, run_test_server

from mmduet.model import LoadedModel
from mmduet.webpage.page import add_page


@contextmanager
def run_page_server(model: LoadedModel | None = None, **settings: Any) -> Iterator[RunningServer]:
    """Run a server with the live page; ``settings`` are those of ``run_test_server``."""
    with run_test_server(model, extend=add_page, **settings) as server:
        yield server
