"""A server with the live page for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from live_server import RunningServer, run_test_server

from mmduet.model import LoadedModel
from mmduet.webpage.page import add_page


@contextmanager
def run_page_server(
    model: LoadedModel | None = None, *, temporary: Path | None = None, **settings: Any
) -> Iterator[RunningServer]:
    """Run a server with the live page, whose files are in ``temporary``; ``settings`` are those of ``run_test_server``."""
    with run_test_server(model, extend=partial(add_page, temporary=temporary), **settings) as server:
        yield server
