"""Read the lines that pytest's ``caplog`` has captured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mmduet.server.logging_config import JsonFormatter


def log_lines(caplog: pytest.LogCaptureFixture, *events: str) -> list[dict[str, Any]]:
    """Return the lines of some events, as ``--log-json`` writes them."""
    lines = [json.loads(JsonFormatter().format(record)) for record in list(caplog.records)]
    return [line for line in lines if line.get("event") in events]


def unredacted(caplog: pytest.LogCaptureFixture) -> str:
    """Return messages, tracebacks and fields of all lines, before the formatters remove credentials."""
    return caplog.text + "".join(str(vars(record)) for record in list(caplog.records))
